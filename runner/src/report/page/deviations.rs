// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The known deviations that were seen or are gone, with their citations.

use super::{Kind, Report, anchor, count, links};
use crate::{report::Cell, results::Deviation};
use maud::{Markup, html};
use std::collections::BTreeMap;

/// A deviation's cases, each with the hosts.
type Places<'a> = BTreeMap<&'a str, Vec<&'a Cell>>;

struct Known<'a> {
    deviation: &'a Deviation,
    seen: Places<'a>,
    gone: Places<'a>,
}

/// The part about deviations; `None` if there are none.
pub fn deviations(report: &Report<'_>) -> Option<Markup> {
    let mut all: BTreeMap<&str, Known<'_>> = BTreeMap::new();
    for (name, results) in &report.cases {
        for (cell, case) in results {
            for deviation in &case.deviations {
                let known = all.entry(&deviation.name);
                let known = known.or_insert(Known { deviation, seen: Places::new(), gone: Places::new() });
                let gone = case.outcome == crate::results::Outcome::Xpass;
                let places = if gone { &mut known.gone } else { &mut known.seen };
                places.entry(name).or_default().push(cell);
            }
        }
    }
    (!all.is_empty()).then(|| {
        html! {
            p { "Known departures from the architecture. They do not fail a case. Any other departure does." }
            @for known in all.values() { (one(known)) }
        }
    })
}

fn one(Known { deviation, seen, gone }: &Known<'_>) -> Markup {
    let Deviation { name, whose, why, source } = deviation;
    let kind = if seen.is_empty() { Kind::Xpass } else { Kind::Xfail };
    html! {
        details.deviation.(kind.class()) id=(anchor("deviation", name)) {
            summary {
                span.sign aria-hidden="true" { (kind.sign()) }
                span.name { (name) }
                span.badge { (whose) }
                span.rule { (why) }
            }
            div.body {
                p { strong { "The architecture " } bdi { (why) } }
                p { strong { "Where " } bdi { (source) } }
                (places("Seen", seen))
                (places("No longer seen", gone))
            }
        }
    }
}

fn places(what: &str, places: &Places<'_>) -> Markup {
    html! {
        @if !places.is_empty() {
            h4 { (what) " in " (count(places.len(), "case")) }
            dl.places {
                @for (case, cells) in places {
                    dt { a href={ "#" (anchor("case", case)) } { (case) } }
                    dd { (links(cells)) }
                }
            }
        }
    }
}
