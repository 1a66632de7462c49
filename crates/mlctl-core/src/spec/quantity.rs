//! Durations, as `1h30m`, and quantities of bytes, as `4Gi`.

use std::time::Duration;

/// Reads a duration: whole numbers with units, the largest first, each unit once.
pub fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut rest = text;
    let mut units = UNITS.as_slice();
    let mut millis = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let index = units.iter().position(|(unit, _)| *unit == &rest[..letters])?;
        millis = millis.checked_add(number.checked_mul(units[index].1)?)?;
        rest = &rest[letters..];
        units = &units[index + 1..];
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

/// Reads a number of bytes: a decimal number and a unit.
pub fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1000_u64.pow(2),
        "G" => 1000_u64.pow(3),
        "T" => 1000_u64.pow(4),
        "P" => 1000_u64.pow(5),
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    // A fraction: only digits and one point get here, so neither sign, exponent nor `inf`.
    let scaled = number.parse::<f64>().ok()? * factor as f64;
    (number.starts_with(|c: char| c.is_ascii_digit()) && scaled < 9e18).then_some(scaled as u64)
}

/// A number of bytes as [`bytes`] reads it, exactly.
pub(crate) fn written(bytes: u64) -> String {
    let units = [(50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];
    let whole = units.iter().find(|(bits, _)| bytes != 0 && bytes.trailing_zeros() >= *bits);
    whole.map_or_else(|| bytes.to_string(), |(bits, unit)| format!("{}{unit}", bytes >> bits))
}

/// What was probably meant by a quantity that is none.
pub(crate) fn similar_bytes(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    let prefix = unit.trim().chars().next()?.to_ascii_uppercase();
    let known = "KMGTP".contains(prefix) && number.parse::<f64>().is_ok();
    known.then(|| format!("write \"{number}{prefix}i\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("2d"), Some(Duration::from_secs(172_800)));
        assert_eq!(duration("1m500ms"), Some(Duration::from_millis(60_500)));
        for bad in
            ["", "10", "s", "30m1h", "1h1h", "1.5h", "-1s", "1 h", "10S", "99999999999999999999s", "9999999999999999d"]
        {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn quantities() {
        assert_eq!(bytes("4Gi"), Some(4 << 30));
        for written in ["64Mi", "4Gi", "1536Mi", "1000", "1Ki", "0"] {
            assert_eq!(self::written(bytes(written).unwrap()), written);
        }
        assert_eq!(bytes("500M"), Some(500_000_000));
        assert_eq!(bytes("1.5Ki"), Some(1536));
        assert_eq!(bytes("17"), Some(17));
        for bad in ["", "4GB", "Gi", "-1", "1e3", ".5Gi", "1.2.3Gi", "inf", "99999999Pi", "4 Gi"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
        assert_eq!(similar_bytes("4GB").as_deref(), Some("write \"4Gi\""));
    }
}
