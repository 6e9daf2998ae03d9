// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A file of deviations: its keys and its errors.

use super::{Deviation, condition::Condition};
use crate::{
    cpu_model::CpuModel,
    diagnostic::{Diagnostic, Source},
    expected::condition::{Capability, WritableField},
    kernel_version::KernelVersion,
    mode::Mode,
    pattern, renamed,
};
use serde::Deserialize;
use std::{collections::BTreeSet, ops::Range, rc::Rc};
use toml::Spanned;

/// The documents that rules are cited from. The name is followed by the issue or file, and by the section.
const DOCUMENTS: [&str; 2] = ["DDI 0487", "Documentation/virt/kvm/"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    deviation: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    cases: Spanned<Vec<Spanned<String>>>,
    observed: Spanned<Vec<Spanned<String>>>,
    why: Spanned<String>,
    source: Spanned<String>,
    since: Option<Spanned<KernelVersion>>,
    until: Option<Spanned<KernelVersion>>,
    capability: Option<Spanned<Capability>>,
    without_capability: Option<Spanned<Capability>>,
    writable: Option<Spanned<WritableField>>,
    watchpoints: Option<Spanned<u8>>,
    mode: Option<Mode>,
    cpu: Option<Spanned<CpuModel>>,
    platform: Option<Spanned<String>>,
    bare: Option<Spanned<bool>>,
    sometimes: Option<Spanned<String>>,
}

/// A deviation, and its place in a file.
pub struct Placed {
    pub deviation: Deviation,
    source: Rc<Source>,
    name: Range<usize>,
    observed: Vec<Range<usize>>,
}

/// The deviations in a file, each of them valid by itself. `cases` are the names of all cases.
pub fn read(source: Source, cases: &[String]) -> Result<Vec<Placed>, Diagnostic> {
    let source = Rc::new(source);
    let file: File = toml::from_str(&source.text).map_err(|error| Diagnostic::toml(&source, &error))?;
    file.deviation.into_iter().map(|entry| entry.place(&source, cases)).collect()
}

impl Entry {
    fn place(self, source: &Rc<Source>, cases: &[String]) -> Result<Placed, Diagnostic> {
        let wrong = |span: Range<usize>, title: &str| Diagnostic::new(source, span, title);
        let name = self.name.get_ref();
        if name.trim().is_empty() {
            return Err(wrong(self.name.span(), "a deviation needs a name"));
        }
        self.check_citation(source)?;
        if self.source.get_ref().trim().is_empty() {
            let what =
                "the kernel's or the platform's file and function that do it, and the commit if it is known";
            return Err(
                wrong(self.source.span(), &format!("deviation \"{name}\" names no source")).help(what)
            );
        }
        for (list, key) in [(&self.cases, "cases"), (&self.observed, "observed")] {
            if list.get_ref().is_empty() {
                return Err(wrong(list.span(), &format!("deviation \"{name}\" lists no {key}")));
            }
        }
        let mut named = BTreeSet::new();
        for pattern in self.cases.get_ref() {
            let places = pattern::places(pattern.get_ref(), cases.iter().map(String::as_str))
                .map_err(|problem| wrong(pattern.span(), &problem))?;
            named.extend(places.into_iter().map(|place| cases[place].clone()));
        }
        self.check_condition(source)?;
        Ok(Placed {
            source: Rc::clone(source),
            name: self.name.span(),
            observed: self.observed.get_ref().iter().map(Spanned::span).collect(),
            deviation: Deviation {
                name: self.name.into_inner(),
                cases: named,
                observed: self
                    .observed
                    .into_inner()
                    .into_iter()
                    .map(|observed| renamed::observation(observed.get_ref()))
                    .collect(),
                why: self.why.into_inner(),
                source: self.source.into_inner(),
                sometimes: self.sometimes.is_some(),
                condition: Condition {
                    since: self.since.map(Spanned::into_inner),
                    until: self.until.map(Spanned::into_inner),
                    capability: self.capability.map(Spanned::into_inner),
                    without_capability: self.without_capability.map(Spanned::into_inner),
                    writable: self.writable.map(Spanned::into_inner),
                    watchpoints: self.watchpoints.map(Spanned::into_inner),
                    mode: self.mode,
                    cpu: self.cpu.map(Spanned::into_inner),
                    platform: self.platform.map(Spanned::into_inner),
                    bare: self.bare.is_some_and(Spanned::into_inner),
                },
            },
        })
    }

    fn check_citation(&self, source: &Rc<Source>) -> Result<(), Diagnostic> {
        let (name, why) = (self.name.get_ref(), self.why.get_ref());
        if cites(why) {
            return Ok(());
        }
        let title = if why.trim().is_empty() {
            format!("deviation \"{name}\" is a draft: a person has to read the rule and cite it here")
        } else {
            format!("deviation \"{name}\" cites no section")
        };
        let help = "what the rule says, followed by its document and section: (DDI 0487K.a OSDLR_EL1) or (Linux \
                    Documentation/virt/kvm/api.rst 4.68)";
        Err(Diagnostic::new(source, self.why.span(), title).help(help))
    }

    /// Refuses a condition that no host can meet.
    fn check_condition(&self, source: &Rc<Source>) -> Result<(), Diagnostic> {
        let name = self.name.get_ref();
        let wrong = |span: Range<usize>, problem: &str| {
            Diagnostic::new(source, span, format!("deviation \"{name}\" applies to no host: {problem}"))
        };
        if let (Some(since), Some(until)) = (&self.since, &self.until)
            && since.get_ref() >= until.get_ref()
        {
            let (from, to) = (since.get_ref(), until.get_ref());
            let problem = format!("it is seen since {from}, and no longer in {to}");
            return Err(wrong(until.span(), &problem).beside(source, since.span(), ""));
        }
        if let (Some(with), Some(without)) = (&self.capability, &self.without_capability)
            && with.get_ref() == without.get_ref()
        {
            let problem = format!("{} cannot be both present and absent", with.get_ref().name());
            return Err(wrong(without.span(), &problem).beside(source, with.span(), ""));
        }
        if let Some(platform) = self.platform.as_ref().filter(|platform| platform.get_ref().trim().is_empty())
        {
            return Err(wrong(platform.span(), "every platform has a name")
                .help("`dfr0 host show` prints the platform of a host"));
        }
        if let Some(watchpoints) =
            self.watchpoints.as_ref().filter(|count| !(1..=16).contains(count.get_ref()))
        {
            return Err(wrong(watchpoints.span(), "a PE has 1 to 16 watchpoints"));
        }
        if let Some(sometimes) = self.sometimes.as_ref().filter(|why| why.get_ref().trim().is_empty()) {
            let title = format!("deviation \"{name}\" is seen sometimes, and does not say when");
            return Err(Diagnostic::new(source, sometimes.span(), title)
                .help("name what decides it, which dfr0 cannot ask the host for"));
        }
        let Some(bare) = self.bare.as_ref().filter(|bare| *bare.get_ref()) else {
            return Ok(());
        };
        let of_kvm = [
            ("since", self.since.as_ref().map(Spanned::span)),
            ("until", self.until.as_ref().map(Spanned::span)),
            ("capability", self.capability.as_ref().map(Spanned::span)),
            ("without_capability", self.without_capability.as_ref().map(Spanned::span)),
            ("writable", self.writable.as_ref().map(Spanned::span)),
        ];
        if let Some((key, span)) = of_kvm.into_iter().find_map(|(key, span)| Some((key, span?))) {
            let problem = format!("\"{key}\" is about the kernel, and a bare CPU has no kernel");
            return Err(wrong(span, &problem).beside(source, bare.span(), ""));
        }
        if self.platform.is_none() {
            let problem = "a bare CPU's deviation is its platform's, and no platform is given";
            return Err(wrong(bare.span(), problem));
        }
        Ok(())
    }
}

/// Whether the text names a document and a section of it.
fn cites(text: &str) -> bool {
    let has_section = |rest: &str| {
        let section = rest.split_once(' ').map(|(_, section)| section);
        section.is_some_and(|section| section.starts_with(|c: char| c.is_ascii_alphanumeric()))
    };
    DOCUMENTS.iter().any(|document| text.split(document).skip(1).any(has_section))
}

impl Placed {
    /// Checks this entry together with an earlier one.
    pub fn check_beside(&self, earlier: &Self, cases: &[String]) -> Result<(), Diagnostic> {
        let (one, other) = (&self.deviation, &earlier.deviation);
        if one.name == other.name {
            return Err(Diagnostic::new(
                &self.source,
                self.name.clone(),
                format!("deviation \"{}\" is listed twice", one.name),
            )
            .beside(&earlier.source, earlier.name.clone(), "the first"));
        }
        let both = || {
            one.observed.iter().zip(&self.observed).find_map(|(observed, span)| {
                let place = other.observed.iter().position(|listed| listed == observed)?;
                Some((observed, span, &earlier.observed[place]))
            })
        };
        let Some((observed, span, earlier_span)) =
            both().filter(|_| !one.condition.excludes(&other.condition))
        else {
            return Ok(());
        };
        let Some(case) = cases.iter().find(|case| one.forgives(case) && other.forgives(case)) else {
            return Ok(());
        };
        let title =
            format!("deviations \"{}\" and \"{}\" both list \"{observed}\" of {case}", one.name, other.name);
        let label = format!("\"{}\" lists it for hosts that may be the same", other.name);
        Err(Diagnostic::new(&self.source, span.clone(), title)
            .beside(&earlier.source, earlier_span.clone(), label)
            .help("an observation has one citation: list it in only one of them, or give them conditions that exclude each other"))
    }
}
