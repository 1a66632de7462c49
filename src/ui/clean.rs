//! Makes what programs print harmless on a terminal: of all control characters and sequences only colours, line breaks
//! and tabs are left. A log may be hostile, and a line of it 10 MB long: nothing is kept but the sequence at hand.

/// The longest colour sequence that is believed.
const LONGEST: usize = 64;

/// A filter for a stream that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Cleaner {
    state: State,
    /// The sequence at hand, from its ESC on.
    sequence: Vec<u8>,
    /// The beginning of a character that the last piece cut.
    cut: Vec<u8>,
    /// A carriage return was read: what follows would overwrite the line, and begins a new one instead.
    returned: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// ESC was read.
    Escape,
    /// ESC [ was read: parameters up to a final byte.
    Csi,
    /// A string for the terminal (title, clipboard, ...) up to BEL or ESC \.
    Message,
    /// ESC inside of that.
    StringEscape,
}

impl Cleaner {
    /// What is left of the next piece.
    pub(crate) fn clean(&mut self, piece: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.cut);
        bytes.extend_from_slice(piece);
        let whole = whole_characters(&bytes);
        self.cut = bytes.split_off(whole);
        let mut clean = String::with_capacity(bytes.len());
        for character in String::from_utf8_lossy(&bytes).chars() {
            self.next(character, &mut clean);
        }
        clean
    }

    fn next(&mut self, character: char, clean: &mut String) {
        if std::mem::take(&mut self.returned) && character != '\n' && character != '\r' {
            clean.push('\n');
        }
        match self.state {
            State::Text => match character {
                '\x1b' => self.begin(State::Escape),
                '\u{9b}' => self.begin(State::Csi),
                '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => self.begin(State::Message),
                '\r' => self.returned = true,
                '\n' | '\t' => clean.push(character),
                _ if character.is_control() => {}
                _ => clean.push(character),
            },
            State::Escape => match character {
                '[' => {
                    self.sequence.push(b'[');
                    self.state = State::Csi;
                }
                ']' | 'P' | 'X' | '^' | '_' => self.state = State::Message,
                '\x1b' => self.begin(State::Escape),
                // ESC, any number of intermediates, one final byte.
                ' '..='/' => {}
                _ => self.state = State::Text,
            },
            State::Csi => self.csi(character, clean),
            State::Message => match character {
                '\x07' | '\u{9c}' => self.state = State::Text,
                '\x1b' => self.state = State::StringEscape,
                _ => {}
            },
            State::StringEscape => match character {
                '\\' => self.state = State::Text,
                '\x1b' => {}
                _ => self.state = State::Message,
            },
        }
    }

    fn csi(&mut self, character: char, clean: &mut String) {
        match character {
            '0'..='9' | ';' | ':' if self.sequence.len() < LONGEST => self.sequence.push(character as u8),
            // Anything but numbers makes it something else than a colour; so does too much of it.
            ' '..='?' => self.sequence.clear(),
            '@'..='~' => {
                let colour = character == 'm' && self.sequence.first() == Some(&b'\x1b');
                if colour {
                    clean.extend(self.sequence.iter().map(|byte| char::from(*byte)));
                    clean.push('m');
                }
                self.state = State::Text;
            }
            '\x1b' => self.begin(State::Escape),
            '\n' => {
                self.state = State::Text;
                clean.push('\n');
            }
            _ => {}
        }
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.sequence.clear();
        if state == State::Escape {
            self.sequence.push(b'\x1b');
        }
    }
}

/// Bytes up to a character that may go on in the next piece.
fn whole_characters(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for at in (tail..bytes.len()).rev() {
        let needed = match bytes[at] {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0x80..=0xbf => continue,
            _ => return bytes.len(),
        };
        return if bytes.len() - at < needed { at } else { bytes.len() };
    }
    bytes.len()
}

/// One line for people: cleaned, of what overwrote itself (`\r`) the last state, no longer than `limit` characters.
pub(crate) fn line(bytes: &[u8], limit: usize) -> String {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let last = bytes.rsplit(|byte| *byte == b'\r').find(|part| !part.is_empty()).unwrap_or_default();
    // Four bytes a character, and as much again for colours.
    let cut = &last[..last.len().min(limit.saturating_mul(8))];
    let clean = Cleaner::default().clean(cut);
    match clean.char_indices().nth(limit) {
        Some((at, _)) => format!("{}…\x1b[0m", &clean[..at]),
        None if clean.contains('\x1b') => clean + "\x1b[0m",
        None => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> String {
        Cleaner::default().clean(text.as_bytes())
    }

    #[test]
    fn colours_stay_and_everything_else_goes() {
        assert_eq!(clean("a\x1b[1;31mred\x1b[0m\n\tb"), "a\x1b[1;31mred\x1b[0m\n\tb");
        assert_eq!(clean("\x1b[38:5:200mx"), "\x1b[38:5:200mx");
        assert_eq!(clean("\x1b[2J\x1b[Hx\x1b[?25l\x1b[6n\x1b[>4m"), "x");
        assert_eq!(clean("\x1b]0;title\x07x\x1b]52;c;aGk=\x1b\\y\x1bP+q\x1b\\z"), "xyz");
        assert_eq!(clean("\u{9b}2Jx\u{9d}0;t\u{9c}y\u{85}z"), "xyz");
        assert_eq!(clean("a\x07\x08\x0c\x7f\x00b\x1bc\x1b(0c\x1b#8d"), "abcd");
        assert_eq!(clean("10%\r\r20%\r\nend\r"), "10%\n20%\nend");
    }

    #[test]
    fn pieces_may_cut_anywhere() {
        let text = "é\x1b[31m日本\x1b]0;t\x07𝄞\x1b[0m\x1b[Kend";
        let whole = clean(text);
        for cut in 0..text.len() {
            let mut cleaner = Cleaner::default();
            let pieces = cleaner.clean(&text.as_bytes()[..cut]) + &cleaner.clean(&text.as_bytes()[cut..]);
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_never_ends_takes_no_memory_and_shows_nothing() {
        let mut cleaner = Cleaner::default();
        let mut hostile = b"\x1b[".to_vec();
        hostile.extend(std::iter::repeat_n(b'1', 1_000_000));
        assert_eq!(cleaner.clean(&hostile), "");
        assert!(cleaner.sequence.capacity() <= 2 * LONGEST);
        assert_eq!(cleaner.clean(b"mnext"), "next");
    }

    #[test]
    fn invalid_utf8_is_shown_as_such() {
        assert_eq!(Cleaner::default().clean(b"a\xff\xfeb"), "a\u{fffd}\u{fffd}b");
    }

    #[test]
    fn a_line_is_its_last_state_and_ends_its_colours() {
        assert_eq!(line(b"10%\r50%\r100%\r", 80), "100%");
        assert_eq!(line(b"windows\r", 80), "windows");
        assert_eq!(line(b"\x1b[31mred", 80), "\x1b[31mred\x1b[0m");
        assert_eq!(line(&[b'x'; 10_000_000], 5), "xxxxx…\x1b[0m");
    }
}
