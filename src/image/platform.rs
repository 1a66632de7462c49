//! Platforms by their two names: Docker says `linux/arm64`, the lock `linux-aarch64`.

use crate::error::CommandError;

/// Docker's names of processors, and ours.
const PROCESSORS: [(&str, &str); 8] = [
    ("amd64", "x86_64"),
    ("arm64", "aarch64"),
    ("386", "x86"),
    ("arm", "arm"),
    ("ppc64le", "powerpc64"),
    ("s390x", "s390x"),
    ("riscv64", "riscv64"),
    ("loong64", "loongarch64"),
];

/// `linux-aarch64` as Docker has it; what neither knows stays as it is.
pub(crate) fn docker(platform: &str) -> String {
    let (system, processor) = platform.split_once('-').unwrap_or(("linux", platform));
    let known = PROCESSORS.iter().find(|(_, ours)| *ours == processor);
    format!("{system}/{}", known.map_or(processor, |(docker, _)| docker))
}

/// `linux/arm64`, `linux/arm64/v8` or `linux-aarch64`, as the lock writes it.
pub(crate) fn parse(text: &str) -> Result<String, CommandError> {
    let (system, processor) = text.split_once(['/', '-']).unwrap_or(("", text));
    let processor = processor.split('/').next().unwrap_or(processor);
    let known = PROCESSORS.iter().find(|(docker, ours)| [*docker, *ours].contains(&processor));
    match known {
        Some((_, ours)) if system == "linux" => Ok(format!("linux-{ours}")),
        _ => Err(CommandError::usage(format!("`{text}` is no platform that images can be built for"))
            .hint("write it as `linux/amd64` or `linux/arm64`")),
    }
}

/// The platform of nodes that Kubernetes says to have this processor (`arm64`), as the lock writes it.
pub(crate) fn of_processor(name: &str) -> Option<String> {
    parse(&format!("linux/{name}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_of_a_platform_are_understood() {
        for (text, ours) in [
            ("linux/arm64", "linux-aarch64"),
            ("linux/arm64/v8", "linux-aarch64"),
            ("linux-x86_64", "linux-x86_64"),
            ("linux/amd64", "linux-x86_64"),
        ] {
            assert_eq!(parse(text).unwrap(), ours);
        }
        assert_eq!(docker("linux-aarch64"), "linux/arm64");
        assert_eq!((of_processor("arm64"), of_processor("z80")), (Some("linux-aarch64".to_owned()), None));
        for text in ["windows/amd64", "arm64", "linux/", "linux/x"] {
            assert_eq!(parse(text).unwrap_err().kind.code(), 2, "{text}");
        }
    }
}
