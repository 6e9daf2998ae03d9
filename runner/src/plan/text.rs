// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Plans as text for people: the verdict first, then what decides it.

use super::{Common, End, OfHost, Part, Plan, Reason, Register, Verdict};
use crate::report::count;
use dfr0_model::rule::Rule;
use std::fmt;

/// At most this many registers of a list are printed; JSON has all.
const NAMED: usize = 12;
/// The upper limit of a line of names, in characters.
const LINE: usize = 100;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        end(f, "A", &self.a)?;
        end(f, "B", &self.b)?;
        writeln!(f)?;
        match (&self.guest, self.debug.verdict) {
            (Some(guest), Verdict::WithShape) => {
                writeln!(f, "debug hardware: moves if the VM is created with {}", guest.shape)?;
            }
            _ => writeln!(f, "debug hardware: {}", said(&self.debug))?,
        }
        let mut cited = Vec::new();
        for reason in self.debug.reasons.iter().chain(&self.debug.fine) {
            debug_reason(f, reason, &mut cited)?;
        }
        if !self.writes.is_empty() {
            let perhaps = if self.debug.verdict == Verdict::NotKnown { ", if they are taken" } else { "" };
            writeln!(f, "  the writes, in order{perhaps}:")?;
        }
        for (n, write) in self.writes.iter().enumerate() {
            let (on, when) = (write.on, write.when);
            writeln!(
                f,
                "    {}. on {on:?}, {when}: {} ({}) = {}",
                n + 1,
                write.register,
                write.id,
                write.value
            )?;
        }
        if !self.losses.is_empty() {
            writeln!(f, "  what the guest loses:")?;
        }
        for loss in &self.losses {
            writeln!(f, "    {loss}")?;
        }
        citations(f, &cited)?;
        writeln!(f, "\neverything else: {}", said(&self.others))?;
        others(f, &self.others)?;
        let mut head = false;
        for (side, end) in [("A", &self.a), ("B", &self.b)] {
            for assumed in &end.assumed {
                if !head {
                    writeln!(f, "\nassumed:")?;
                    head = true;
                }
                writeln!(f, "  {side}: {assumed}")?;
            }
        }
        writeln!(
            f,
            "\nThis is for a VM without optional vCPU features (SVE, PMU, pointer authentication). It says nothing about\n\
             the values of registers that are not ID registers."
        )
    }
}

fn end(f: &mut fmt::Formatter<'_>, side: &str, end: &End) -> fmt::Result {
    writeln!(f, "{side}: {}: {}, Linux {}", end.file, end.cpu, end.kernel)?;
    writeln!(f, "   {}", end.shape)
}

fn said(part: &Part) -> String {
    let deciding: Vec<&Reason> =
        part.reasons.iter().filter(|reason| reason.verdict == part.verdict).collect();
    let Some(first) = deciding.first() else {
        return "moves as is".into();
    };
    let first = match (&first.field, first.register.as_str()) {
        (Some(field), "ID_AA64DFR0_EL1") => field,
        _ => &first.register,
    };
    let (all, plural) = match deciding.len() - 1 {
        0 => (first.clone(), false),
        more => (format!("{first} and {more} more"), true),
    };
    match part.verdict {
        Verdict::AsIs => "moves as is".into(),
        Verdict::WithShape => format!("moves if the VM is created with less {all}"),
        Verdict::NotKnown => format!("may move: it depends on {all}"),
        Verdict::Cannot => format!("cannot move: {all} {} it", if plural { "stop" } else { "stops" }),
    }
}

const fn comes_to(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::AsIs => "is fine",
        Verdict::WithShape => "must be lowered",
        Verdict::NotKnown => "may stop it",
        Verdict::Cannot => "stops it",
    }
}

fn debug_reason(f: &mut fmt::Formatter<'_>, reason: &Reason, cited: &mut Vec<&'static Rule>) -> fmt::Result {
    let name = reason.field.as_deref().unwrap_or(&reason.register);
    write!(f, "  {name} {}", comes_to(reason.verdict))?;
    match &reason.values {
        Some([a, b]) => writeln!(f, ": A has {a}, B {b}")?,
        None => writeln!(f)?,
    }
    for why in &reason.why {
        writeln!(f, "    {why}")?;
    }
    cite(f, &reason.rules, cited)
}

/// Prints the numbers of these rules in the list that follows.
fn cite(f: &mut fmt::Formatter<'_>, rules: &[&'static Rule], cited: &mut Vec<&'static Rule>) -> fmt::Result {
    let mut number = |rule: &&'static Rule| {
        let place = cited.iter().position(|known| known == rule).unwrap_or_else(|| {
            cited.push(rule);
            cited.len() - 1
        });
        (place + 1).to_string()
    };
    let numbers: Vec<String> = rules.iter().map(&mut number).collect();
    match numbers.len() {
        0 => Ok(()),
        1 => writeln!(f, "    by rule {}", numbers[0]),
        _ => writeln!(f, "    by rules {}", numbers.join(", ")),
    }
}

fn citations(f: &mut fmt::Formatter<'_>, cited: &[&'static Rule]) -> fmt::Result {
    if !cited.is_empty() {
        writeln!(f, "  the rules:")?;
    }
    cited.iter().enumerate().try_for_each(|(n, rule)| writeln!(f, "    {}. {rule}", n + 1))
}

/// Prints the registers by verdict and explanation, the worst first.
fn others(f: &mut fmt::Formatter<'_>, part: &Part) -> fmt::Result {
    let mut reasons: Vec<&Reason> = part.reasons.iter().chain(&part.fine).collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.verdict));
    let mut told: Vec<(Verdict, &[String])> = Vec::new();
    for reason in &reasons {
        let group = (reason.verdict, reason.why.as_slice());
        if told.contains(&group) {
            continue;
        }
        told.push(group);
        let of_group: Vec<&&Reason> =
            reasons.iter().filter(|other| (other.verdict, other.why.as_slice()) == group).collect();
        writeln!(f, "  {}: {}", comes_to(reason.verdict), reason.why.join("; "))?;
        for reason in of_group.iter().filter(|reason| reason.values.is_some()) {
            register(f, reason)?;
        }
        names(
            f,
            of_group.iter().filter(|reason| reason.values.is_none()).map(|reason| reason.register.clone()),
        )?;
    }
    Ok(())
}

fn register(f: &mut fmt::Formatter<'_>, reason: &Reason) -> fmt::Result {
    let [a, b] = reason.values.as_ref().map_or(["", ""], |[a, b]| [a, b]);
    writeln!(f, "    {:<17} A {a}, B {b}", reason.register)?;
    match &reason.field {
        Some(fields) if !fields.is_empty() => writeln!(f, "    {:<17} {fields}", ""),
        _ => Ok(()),
    }
}

/// Prints the first of these names, and how many more there are.
pub fn names(out: &mut impl fmt::Write, names: impl Iterator<Item = String>) -> fmt::Result {
    let mut names: Vec<String> = names.collect();
    let more = names.len().saturating_sub(NAMED);
    if more > 1 {
        names.truncate(NAMED);
        names.push(format!("and {more} more"));
    }
    let mut line = String::new();
    for name in names {
        if !line.is_empty() && line.len() + name.len() > LINE {
            writeln!(out, "    {line}")?;
            line.clear();
        }
        line += if line.is_empty() { "" } else { ", " };
        line += &name;
    }
    if line.is_empty() { Ok(()) } else { writeln!(out, "    {line}") }
}

impl fmt::Display for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.debug {
            Verdict::AsIs => writeln!(f, "all give the same shape: {}", self.shape)?,
            Verdict::WithShape => writeln!(f, "the largest shape that all share: {}", self.shape)?,
            Verdict::NotKnown => {
                writeln!(
                    f,
                    "the largest shape that all may share, if what is not known allows it: {}",
                    self.shape
                )?;
            }
            Verdict::Cannot => {
                let who = self.hosts.iter().filter(|host| host.verdict == Verdict::Cannot);
                let who: Vec<&str> = who.map(|host| host.file.as_str()).collect();
                writeln!(f, "the hosts share no shape: prevented by {}", who.join(", "))?;
                writeln!(f, "the least that each has: {}", self.shape)?;
            }
        }
        writeln!(f, "ID_AA64DFR0_EL1 = {}", self.id_aa64dfr0)?;
        let mut cited = Vec::new();
        for host in &self.hosts {
            let does = match host.verdict {
                Verdict::AsIs => "gives it as is",
                Verdict::WithShape => "gives it if the VM is created with it",
                Verdict::NotKnown => "may give it",
                Verdict::Cannot => "prevents it",
            };
            writeln!(f, "\n{}: {does}", host.file)?;
            writeln!(f, "  its KVM gives {}", host.shape)?;
            for lowers in &host.lowers {
                writeln!(f, "  lowers to {lowers}")?;
            }
            for obstacle in &host.obstacles {
                writeln!(f, "  {}: {}", obstacle.field, obstacle.why)?;
                cite(f, &obstacle.rules, &mut cited)?;
            }
            for assumed in &host.assumed {
                writeln!(f, "  assumed: {assumed}")?;
            }
        }
        if !cited.is_empty() {
            writeln!(f)?;
        }
        citations(f, &cited)?;
        self.others(f)?;
        writeln!(
            f,
            "\n`dfr0 plan A B` says what else stops a move, such as a register that one host does not have."
        )
    }
}

impl Common {
    /// The other ID registers, and for each host how it comes to the shared values.
    fn others(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.registers.is_empty() {
            return writeln!(f, "\neverything else: all give the same ID registers");
        }
        writeln!(f, "\neverything else: {} differ", count(self.registers.len(), "ID register"))?;
        for Register { register, fields, value, .. } in &self.registers {
            let value = value.as_deref().unwrap_or("no shared value");
            writeln!(f, "  {register:<17} {value:<19} {fields}")?;
        }
        for (place, host) in self.hosts.iter().enumerate() {
            let of_host = || self.registers.iter().map(|register| (register, &register.hosts[place]));
            let verdict = of_host().map(|(_, of)| of.verdict).max().unwrap_or(Verdict::AsIs);
            let does = match verdict {
                Verdict::AsIs => "gives these as is",
                Verdict::WithShape => "gives these if the VM is created with them",
                Verdict::NotKnown => "may give these",
                Verdict::Cannot => "prevents it",
            };
            writeln!(f, "\n{}: {does}", host.file)?;
            let mut told: Vec<&str> = Vec::new();
            for why in of_host().filter_map(|(_, of)| of.why.as_deref()) {
                if !told.contains(&why) {
                    told.push(why);
                    writeln!(f, "  {why}:")?;
                    let same = of_host().filter(|(_, of)| of.why.as_deref() == Some(why));
                    names(f, same.map(|(register, _)| register.register.clone()))?;
                }
            }
            let is_written = |of: &OfHost| matches!(of.verdict, Verdict::WithShape | Verdict::NotKnown);
            let mut writes = of_host()
                .filter(|(register, of)| is_written(of) && register.value != of.has)
                .filter_map(|(register, _)| Some((register, register.value.as_ref()?)))
                .peekable();
            if writes.peek().is_some() {
                let perhaps = if verdict == Verdict::WithShape { "" } else { ", if they are taken" };
                writeln!(f, "  the writes, before the first KVM_RUN{perhaps}:")?;
            }
            for (Register { register, id, .. }, value) in writes {
                writeln!(f, "    {register} ({id}) = {value}")?;
            }
        }
        Ok(())
    }
}
