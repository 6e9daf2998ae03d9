// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The frames on a host's only serial console.
//!
//! The console carries four things at once: the command's stdout, its stderr, messages of `lab-init`, and the output of
//! the kernel itself. `lab-init` writes frames, one per line; everything else is the kernel's.
//!
//! ```text
//!  SOH kind  seq       sum      payload                                LF
//!  01  o     0000002a  9c1fe03b ok 1 breakpoint.address_match.el1\n    0a
//!      │     │         │        └ at most 1024 bytes; control characters and `\` as \xHH, LF as \n
//!      │     │         └ FNV-1a of kind, seq and payload (before escaping): was the line cut by the kernel?
//!      │     └ counts the frames from 0: is one missing?
//!      └ o stdout   e stderr   k a kernel message (from /dev/kmsg)
//!        f Facts as TOML, once, before the command   x Outcome, once, the last frame
//!        w a piece of a file (brought.rs)
//!
//!  [   12.345678] Internal error: Oops ...   ← no SOH: the kernel's own line, never part of a frame
//! ```
//!
//! SOH is never part of a payload, so the decoder also finds a frame after half a kernel message. It reports frames that
//! are damaged or missing, and does not guess their contents. It keeps at most one line, whose length is bounded.

/// The first byte of a frame. It does not occur in the rest of a frame.
const SOH: u8 = 1;
/// The longest payload, before escaping.
pub const MAX_PAYLOAD: usize = 1024;
/// Longer than any frame. A longer line is the kernel's (or garbage) and is passed on in pieces.
const MAX_LINE: usize = 4 * MAX_PAYLOAD + 64;

/// What a frame contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes of the command's stdout.
    Stdout,
    /// Bytes of the command's stderr.
    Stderr,
    /// A message from the kernel's log.
    Kernel,
    /// [`Facts`](crate::facts::Facts), as TOML.
    Facts,
    /// A piece of a [file](crate::brought) that the command wrote.
    File,
    /// [`Outcome`](crate::outcome::Outcome), the last frame.
    Outcome,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Stdout, Self::Stderr, Self::Kernel, Self::Facts, Self::File, Self::Outcome];

    fn letter(self) -> u8 {
        match self {
            Self::Stdout => b'o',
            Self::Stderr => b'e',
            Self::Kernel => b'k',
            Self::Facts => b'f',
            Self::File => b'w',
            Self::Outcome => b'x',
        }
    }
}

/// An event on the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A complete frame.
    Frame(Kind, Vec<u8>),
    /// A line, or a piece of a very long one, that `lab-init` did not write.
    Kernel(String),
    /// The text of a frame that was cut or changed.
    Damaged(String),
    /// This many frames are missing before the next one.
    Missing(u32),
}

/// Writes frames.
#[derive(Debug, Default)]
pub struct Encoder {
    next: u32,
}

impl Encoder {
    /// The frames for `payload`, ready to be written. There is none for an empty payload.
    pub fn encode(&mut self, kind: Kind, payload: &[u8]) -> Vec<u8> {
        let mut frames = Vec::with_capacity(payload.len() + 64);
        for chunk in payload.chunks(MAX_PAYLOAD) {
            let sum = checksum(kind, self.next, chunk);
            frames.push(SOH);
            frames.extend(format!("{}{:08x}{sum:08x}", kind.letter() as char, self.next).bytes());
            escape(chunk, &mut frames);
            frames.push(b'\n');
            self.next = self.next.wrapping_add(1);
        }
        frames
    }
}

/// Finds frames in a console's bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    next: u32,
}

impl Decoder {
    /// Takes the next bytes, which may end anywhere, and returns the events that are complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let mut piece = piece;
            while self.line.len() + piece.len() > MAX_LINE {
                let (head, tail) = piece.split_at(MAX_LINE - self.line.len());
                self.line.extend_from_slice(head);
                self.finish_line(&mut events);
                piece = tail;
            }
            self.line.extend_from_slice(piece);
            if self.line.ends_with(b"\n") {
                self.finish_line(&mut events);
            }
        }
        events
    }

    /// The events in the rest of the last line, after the console was closed.
    pub fn finish(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        self.finish_line(&mut events);
        events
    }

    fn finish_line(&mut self, events: &mut Vec<Event>) {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        // The kernel ends its lines with CR LF.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut parts = line.split(|&byte| byte == SOH);
        let before = parts.next().unwrap_or_default();
        if !before.trim_ascii().is_empty() {
            events.push(Event::Kernel(printable(before)));
        }
        for part in parts {
            match parse(part) {
                Some((kind, number, payload)) => {
                    let missing = number.wrapping_sub(self.next);
                    if missing != 0 {
                        events.push(Event::Missing(missing));
                    }
                    self.next = number.wrapping_add(1);
                    events.push(Event::Frame(kind, payload));
                }
                None => events.push(Event::Damaged(printable(part))),
            }
        }
    }
}

fn parse(frame: &[u8]) -> Option<(Kind, u32, Vec<u8>)> {
    let (head, escaped) = frame.split_at_checked(17)?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.letter() == head[0])?;
    let number = hexadecimal(&head[1..9])?;
    let payload = unescape(escaped)?;
    (checksum(kind, number, &payload) == hexadecimal(&head[9..])?).then_some((kind, number, payload))
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value: u32, &digit| Some(value << 4 | (digit as char).to_digit(16)?))
}

fn checksum(kind: Kind, number: u32, payload: &[u8]) -> u32 {
    let number = number.to_be_bytes();
    std::iter::once(&kind.letter())
        .chain(&number)
        .chain(payload)
        .fold(0x811c_9dc5, |sum, &byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn escape(payload: &[u8], frame: &mut Vec<u8>) {
    for &byte in payload {
        match byte {
            b'\n' => frame.extend(b"\\n"),
            0..b' ' | b'\\' | 0x7f => frame.extend(format!("\\x{byte:02x}").bytes()),
            // UTF-8 is not escaped, because the console transmits all eight bits.
            _ => frame.push(byte),
        }
    }
}

fn unescape(escaped: &[u8]) -> Option<Vec<u8>> {
    let mut payload = Vec::with_capacity(escaped.len());
    let mut rest = escaped.iter();
    while let Some(&byte) = rest.next() {
        let byte = match byte {
            b'\\' => match rest.next()? {
                b'n' => b'\n',
                b'x' => hexadecimal(&[*rest.next()?, *rest.next()?])? as u8,
                _ => return None,
            },
            byte => byte,
        };
        payload.push(byte);
    }
    Some(payload)
}

/// Console bytes as text for a terminal, without control characters.
pub fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|character| if character.is_control() && character != '\t' { '\u{fffd}' } else { character })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*, sample::Index};

    fn everything() -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..=255).collect();
        bytes.extend("grün \\n \\x41 \r\n trailing space ".bytes());
        bytes
    }

    fn frame(kind: Kind, payload: &[u8]) -> Event {
        Event::Frame(kind, payload.to_vec())
    }

    #[test]
    fn every_byte_can_be_sent_and_frames_contain_no_control_characters() {
        let line = Encoder::default().encode(Kind::Stdout, &everything());
        assert!(line[1..line.len() - 1].iter().all(|byte| !byte.is_ascii_control()));
        assert_eq!(Decoder::default().push(&line), [frame(Kind::Stdout, &everything())]);
    }

    #[test]
    fn bytes_may_be_split_anywhere() {
        let mut encoder = Encoder::default();
        let mut console = encoder.encode(Kind::Stderr, b"no newline at the end");
        console.extend(b"[    1.0] kernel\r\n");
        console.extend(encoder.encode(Kind::Outcome, b"exited 7"));
        for size in 1..console.len() {
            let mut decoder = Decoder::default();
            let events: Vec<_> = console.chunks(size).flat_map(|chunk| decoder.push(chunk)).collect();
            assert_eq!(
                events,
                [
                    frame(Kind::Stderr, b"no newline at the end"),
                    Event::Kernel("[    1.0] kernel".into()),
                    frame(Kind::Outcome, b"exited 7"),
                ]
            );
        }
    }

    #[test]
    fn a_very_long_line_becomes_several_frames() {
        let payload = vec![0u8; 100_000];
        let console = Encoder::default().encode(Kind::Stdout, &payload);
        assert!(console.split(|&byte| byte == b'\n').all(|line| line.len() < MAX_LINE));
        let joined: Vec<u8> = Decoder::default()
            .push(&console)
            .into_iter()
            .flat_map(|event| match event {
                Event::Frame(Kind::Stdout, payload) => payload,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(joined, payload);
    }

    #[test]
    fn a_frame_is_found_after_half_a_kernel_line() {
        let mut console = b"[    2.0] half a li".to_vec();
        console.extend(Encoder::default().encode(Kind::Stdout, b"ok 1 x\n"));
        assert_eq!(
            Decoder::default().push(&console),
            [Event::Kernel("[    2.0] half a li".into()), frame(Kind::Stdout, b"ok 1 x\n")]
        );
    }

    #[test]
    fn a_cut_frame_is_damaged_and_counted() {
        let mut encoder = Encoder::default();
        let cut = encoder.encode(Kind::Stdout, b"ok 1 breakpoint\n");
        let (head, tail) = cut.split_at(24);
        let console = [head, b"[    3.0] Oops\r\n", tail, &encoder.encode(Kind::Stdout, b"ok 2\n")].concat();
        let events = Decoder::default().push(&console);
        assert!(matches!(&events[0], Event::Damaged(text) if text.contains("Oops")), "{events:?}");
        assert!(matches!(&events[1], Event::Kernel(_)), "{events:?}");
        assert_eq!(events[2..], [Event::Missing(1), frame(Kind::Stdout, b"ok 2\n")]);
    }

    #[test]
    fn every_changed_byte_of_a_frame_is_noticed() {
        let good = Encoder::default().encode(Kind::Stdout, b"not ok 1 x");
        for place in 0..good.len() - 1 {
            let mut bad = good.clone();
            // Both are letters and hexadecimal digits.
            bad[place] = if bad[place] == b'e' { b'f' } else { b'e' };
            let events = Decoder::default().push(&bad);
            assert!(!events.iter().any(|event| matches!(event, Event::Frame(..))), "{place}: {events:?}");
        }
    }

    #[test]
    fn garbage_is_bounded_and_never_a_frame() {
        let mut decoder = Decoder::default();
        for byte in 0..=255u8 {
            let events = decoder.push(&[byte; 3 * MAX_LINE]);
            assert!(!events.iter().any(|event| matches!(event, Event::Frame(..))));
            assert!(decoder.line.capacity() <= 2 * MAX_LINE);
        }
        for garbage in
            ["\u{1}", "\u{1}o", "\u{1}o0000000000000000", "\u{1}q00000000deadbeefx", "\u{1}o0000000\u{1}"]
        {
            let events = Decoder::default().push(format!("{garbage}\n").as_bytes());
            assert!(events.iter().all(|event| matches!(event, Event::Damaged(_))), "{events:?}");
        }
    }

    #[test]
    fn an_unfinished_line_is_shown_at_the_end() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(b"Kernel panic - not syn"), []);
        assert_eq!(decoder.finish(), [Event::Kernel("Kernel panic - not syn".into())]);
        assert_eq!(decoder.finish(), []);
    }

    /// Frames, and bytes that may be between them.
    fn console() -> impl Strategy<Value = Vec<u8>> {
        let framed = (0..Kind::ALL.len(), vec(any::<u8>(), 0..40));
        let frame = framed.prop_map(|(kind, payload)| Encoder::default().encode(Kind::ALL[kind], &payload));
        let piece = prop_oneof![frame, vec(any::<u8>(), 0..40), Just(vec![SOH]), Just(vec![b'x'; MAX_LINE])];
        vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn the_events_do_not_depend_on_how_the_bytes_are_split(
            mut console in console(), edits in vec((any::<Index>(), any::<u8>()), 0..4), size in 1..300_usize,
        ) {
            for (place, byte) in edits.iter().filter(|_| !console.is_empty()).collect::<Vec<_>>() {
                let place = place.index(console.len());
                console[place] = *byte;
            }
            let mut decoder = Decoder::default();
            let mut cut: Vec<Event> = console.chunks(size).flat_map(|chunk| decoder.push(chunk)).collect();
            cut.extend(decoder.finish());
            let mut decoder = Decoder::default();
            let mut whole = decoder.push(&console);
            whole.extend(decoder.finish());
            prop_assert_eq!(cut, whole);
        }
    }
}
