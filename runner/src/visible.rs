// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Text from outside as it may be shown: what would command a terminal, or turn the direction of the text around it, is
//! shown as its code point.

use std::borrow::Cow;

/// The text with each such character as an escape, `\u{1b}`. Line feeds and tabs are kept.
pub fn visible(text: &str) -> Cow<'_, str> {
    let kept = |letter: char| !is_hidden(letter) || matches!(letter, '\n' | '\t');
    if text.chars().all(kept) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if kept(letter) { shown.push(letter) } else { shown.extend(letter.escape_unicode()) }
    }
    Cow::Owned(shown)
}

/// The text on one line.
pub fn one_line(text: &str) -> String {
    let text = text.replace(['\n', '\t'], " ");
    visible(&text).into_owned()
}

/// A control character, or a mark that changes the direction of text.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_an_effect_is_shown_and_all_else_is_kept() {
        assert_eq!(visible("a\tb\nç → ✓"), "a\tb\nç → ✓");
        assert_eq!(visible("\x1b[2J\r\0\u{7f}\u{9b}"), r"\u{1b}[2J\u{d}\u{0}\u{7f}\u{9b}");
        assert_eq!(visible("\u{202e}no\u{2069}"), r"\u{202e}no\u{2069}");
        assert_eq!(one_line("a\nb\x1b"), r"a b\u{1b}");
    }
}
