// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Moves between hosts: the plan and the outcome for each ordered pair.

use crate::pairs::{How, Move, MovePart, Table};
use maud::{Markup, html};
use std::collections::{BTreeMap, BTreeSet};

pub fn moves(table: &Table) -> Markup {
    let moves: Vec<Move<'_>> = table.moves().collect();
    html! {
        p {
            "A guest in the middle of a scenario, saved on one host and restored on another: what the plan predicted from "
            "the hosts' fingerprints, and the outcome."
        }
        (grid("The debug hardware", &moves, |pair| &pair.debug))
        (grid("The whole guest", &moves, |pair| &pair.whole))
        p.legend {
            span.pass { span.sign aria-hidden="true" { "✓" } " moved, and the guest saw the same events" }
            span.skip { span.sign aria-hidden="true" { "⊘" } " refused by the target, which names the register" }
            span.fail { span.sign aria-hidden="true" { "✗" } " not as planned, or an event was lost" }
        }
        @for pair in &moves {
            @for (what, part) in [("the debug hardware", &pair.debug), ("the whole guest", &pair.whole)] {
                @if let Some(problem) = &part.problem {
                    article.finding.fail {
                        h4 { (pair.from) " → " (pair.to) ", " (what) }
                        pre { (problem) }
                    }
                }
            }
        }
    }
}

fn grid(title: &str, moves: &[Move<'_>], part: for<'a> fn(&'a Move<'a>) -> &'a MovePart) -> Markup {
    let hosts: BTreeSet<&str> = moves.iter().flat_map(|pair| [pair.from, pair.to]).collect();
    let pairs: BTreeMap<(&str, &str), &Move<'_>> =
        moves.iter().map(|pair| ((pair.from, pair.to), pair)).collect();
    html! {
        div.scroll tabindex="0" role="group" aria-label=(title) {
            table.moves {
                caption { (title) }
                thead { tr {
                    th scope="col" { "from ↓ to →" }
                    @for host in &hosts { th scope="col" { (host) } }
                } }
                tbody {
                    @for from in &hosts {
                        tr {
                            th scope="row" { span.label { "from " } (from) }
                            @for to in &hosts {
                                @match pairs.get(&(*from, *to)) {
                                    Some(pair) => (entry(pair, part(pair))),
                                    None => td.none { span.label { (to) } "·" },
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn entry(pair: &Move<'_>, part: &MovePart) -> Markup {
    let (class, sign) = match (&part.problem, part.how) {
        (Some(_), _) | (None, How::Lost) => ("fail", "✗"),
        (None, How::Moved) => ("pass", "✓"),
        (None, How::Refused) => ("skip", "⊘"),
    };
    let shape = pair.shape.map(|shape| format!("created with {shape}"));
    html! {
        td.(class) title=[shape] {
            span.label { (pair.to) }
            span.came { span.sign aria-hidden="true" { (sign) } " " (breakable(&part.came)) }
            span.plan { "plan: " (part.plan) }
        }
    }
}

/// Text with registers and fields, after each of which a line may end.
fn breakable(text: &str) -> Markup {
    html! {
        @for part in text.split_inclusive(['.', '/']) { (part) wbr; }
    }
}
