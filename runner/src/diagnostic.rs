// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Errors in a file that a person wrote, with file, line and column, and the line itself.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::{fmt, iter, ops::Range, rc::Rc};

/// A file's name and text.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The name to show.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// A file that was built in: its name and text.
    pub fn built_in((name, text): &(&str, &str)) -> Self {
        Self { name: name.to_string(), text: text.to_string() }
    }
}

/// A place in a file, and what is wrong there.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The file.
    pub source: Rc<Source>,
    /// The bytes of its text.
    pub span: Range<usize>,
    /// What is wrong there; empty if the title says it.
    pub label: String,
}

/// An error in a file. `{}` prints it plain, `{:#}` in colour.
#[derive(Debug)]
pub struct Diagnostic {
    /// What is wrong, in one line.
    pub title: String,
    /// The places: first the one to change, then one that it conflicts with.
    pub marks: Vec<Mark>,
    /// What would be right instead.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at one place.
    pub fn new(source: &Rc<Source>, span: Range<usize>, title: impl Into<String>) -> Self {
        let mark = Mark { source: Rc::clone(source), span, label: String::new() };
        Self { title: title.into(), marks: vec![mark], help: None }
    }

    /// Labels the last place.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        if let Some(mark) = self.marks.last_mut() {
            mark.label = label.into();
        }
        self
    }

    /// Adds another place, with its label.
    pub fn beside(mut self, source: &Rc<Source>, span: Range<usize>, label: impl Into<String>) -> Self {
        self.marks.push(Mark { source: Rc::clone(source), span, label: label.into() });
        self
    }

    /// Adds what would be right instead.
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The TOML parser's error.
    pub fn toml(source: &Rc<Source>, error: &toml::de::Error) -> Self {
        Self::new(source, error.span().unwrap_or(0..0), error.message().trim_end())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds = iter::once(AnnotationKind::Primary).chain(iter::repeat(AnnotationKind::Context));
        let snippets = self.marks.chunk_by(|one, next| one.source == next.source).map(|marks| {
            let annotations = marks.iter().zip(&mut kinds).map(|(mark, kind)| {
                let label = (!mark.label.is_empty()).then_some(&*mark.label);
                kind.span(mark.span.clone()).label(label)
            });
            let source = &*marks[0].source;
            Snippet::source(&*source.text).path(&*source.name).annotations(annotations)
        });
        // The caller says "error: " before it, as before every other error.
        let mut group = Level::ERROR.no_name().primary_title(&*self.title).elements(snippets);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(&**help));
        }
        let renderer = if f.alternate() { Renderer::styled() } else { Renderer::plain() };
        f.write_str(&renderer.render(&[group]))
    }
}

impl std::error::Error for Diagnostic {}
