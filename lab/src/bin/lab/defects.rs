// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `lab defects`: builds kernels that are wrong, one defect each, and says which cases see it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use dfr0_lab::cache::{Cache, write_whole};
use dfr0_lab::console::{Console, Output};
use dfr0_lab::defects::{Defect, List, Seen, Verdict, failed_cases, table};
use dfr0_lab::digest::sha256;
use dfr0_lab::errand::Errand;
use dfr0_lab::exit::Exit;
use dfr0_lab::hosts::{Host, Hosts};
use dfr0_lab::interrupt::{Interrupted, Signals};
use dfr0_lab::kernel::{Choice, Identity, Image};
use dfr0_lab::kernel_source::{self, Changes, Tree};
use dfr0_lab::matrix::record::{read_json, write_json};
use dfr0_lab::outcome::Outcome;
use dfr0_lab::pool;
use dfr0_lab::virtual_machine::VirtualMachine;

use crate::qemu_of;

/// kselftest's status of a test that skipped everything.
const SKIPPED: u8 = 4;
/// How many of upstream's tests run at a time, each in a host of its own. Most of them use one CPU.
const HOSTS_AT_ONCE: usize = 2;
/// What runs on a defect of which its own cases see nothing: every case, but not all of its scenarios.
const SAMPLE: [&str; 2] = ["--every", "8"];
/// An upper limit of what is kept of a host's output, in bytes.
const LARGEST: usize = 256 << 20;

pub const EXAMPLES: &str = "\
Examples:
  lab defects --bundle target/bundle --out target/defects
      Build and test everything in lab/kernels/defects.toml.
  lab defects --bundle target/bundle --out target/defects oslsr-const
      One of them.
  lab defects --bundle target/bundle --out target/defects \\
          --upstream target/upstream/tests --page docs/defects.md
      Run upstream's own tests too, and write the page.

DIR gets NAME.json and NAME.jsonl (dfr0's results) for each defect. If the cases
that the file names for a defect see nothing, a sample of every case runs. What
is there already and depends on the same kernel, programs and cases is not run
again, so Ctrl-C loses one defect at the most.

Exit status: 0 if dfr0 sees each defect that can be seen; 1 if one survives
without a reason, if one of upstream's tests fails where dfr0 sees nothing, or
if a case fails without a defect; 128 + N if signal N stopped lab; 125 if lab or
the arguments failed, or a defect cannot be applied, built or tested.";

#[derive(Args)]
pub struct Defects {
    /// Write what was seen into DIR, which is created
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The directory of the static arm64 program dfr0
    #[arg(long, value_name = "BUNDLE")]
    bundle: PathBuf,
    /// A directory with upstream's tests as static arm64 programs
    #[arg(long, value_name = "TESTS")]
    upstream: Option<PathBuf>,
    /// The source: bookworm, trixie, sid, newest or a kernel tree
    #[arg(long, value_name = "SUITE|TREE", default_value = "newest")]
    kernel: Choice,
    /// The defects, as in lab/kernels/defects.toml
    #[arg(long, value_name = "FILE", default_value = "lab/kernels/defects.toml")]
    defects: PathBuf,
    /// Run them on this host only, whatever the file says; may be repeated
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Write the table of all defects into FILE, in Markdown; what it says of defects of which DIR knows nothing stays
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Stop a host after this number of seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    deadline: u64,
    /// Names of defects
    #[arg(value_name = "DEFECT")]
    names: Vec<String>,
}

/// What runs tests on a kernel.
struct Tester<'a> {
    cache: &'a Cache,
    signals: &'a Signals,
    bundle: &'a Path,
    upstream: Vec<(String, Errand)>,
    deadline: Duration,
}

/// What a verdict is about.
struct Subject<'a> {
    /// The name of its file.
    name: &'a str,
    /// [`Defect::digest`], if it is a defect.
    digest: Option<String>,
    cases: &'a [String],
}

/// A kernel that was built.
struct Kernel {
    image: PathBuf,
    identity: Identity,
}

impl Defects {
    pub fn run(&self, hosts: &Hosts) -> Result<Exit> {
        let signals = Signals::hold()?;
        let list = List::load(&self.defects)?;
        let only = if self.host.is_empty() { Vec::new() } else { hosts.several(&self.host)? };
        let mut chosen = Vec::new();
        for defect in list.several(&self.names)? {
            let own =
                hosts.get(defect.host.as_deref()).with_context(|| format!("the defect `{}`", defect.name))?;
            if only.is_empty() || only.contains(&own) {
                chosen.push((defect, own));
            }
        }
        if chosen.is_empty() {
            bail!("no defect shows itself on these hosts");
        }
        let cache = Cache::open()?;
        let tree = self.kernel.tree(&cache, &signals)?;
        // An error of the file is said before the first build, which takes minutes.
        let changes = chosen.iter().map(|(defect, _)| defect.changes(&tree)).collect::<Result<Vec<_>>>()?;
        fs::create_dir_all(&self.out).with_context(|| format!("cannot create {}", self.out.display()))?;
        let tester = Tester {
            cache: &cache,
            signals: &signals,
            bundle: &self.bundle,
            upstream: self.upstream.as_deref().map_or(Ok(Vec::new()), upstream_tests)?,
            deadline: Duration::from_secs(self.deadline),
        };
        let clean = self.without_a_defect(&chosen, &tree, &tester)?;

        let (sender, built) = sync_channel(0);
        let mut bad = clean.values().any(|verdict| verdict.dfr0.something());
        let mut untested = 0;
        thread::scope(|scope| -> Result<()> {
            // The next kernel is built while a host runs.
            scope.spawn(|| {
                let sender = sender;
                for ((defect, host), changes) in chosen.iter().zip(&changes) {
                    let built = tester.builds(&tree, changes);
                    let stopped = built.as_ref().is_err_and(|error| error.is::<Interrupted>());
                    if sender.send((*defect, *host, built)).is_err() || stopped {
                        return;
                    }
                }
            });
            for (number, (defect, host, built)) in (1..).zip(built) {
                let (name, clean) = (&defect.name, &clean[&host.name]);
                let tested = built.and_then(|kernel| {
                    let subject = Subject { name, digest: Some(defect.digest()?), cases: &defect.cases };
                    self.verdict(subject, &kernel, host, Some(clean), &tester)
                });
                let verdict = match tested.with_context(|| format!("the defect `{name}`")) {
                    Ok(verdict) => verdict,
                    Err(error) if error.is::<Interrupted>() => return Err(error),
                    Err(error) => {
                        eprintln!("lab: {error:#}");
                        untested += 1;
                        continue;
                    }
                };
                let seen = describe(&verdict.dfr0);
                eprintln!("lab: {number} of {}: {} on {}: {seen}", chosen.len(), name, host.name);
                if verdict.only_upstream() {
                    eprintln!("lab: {}: upstream's tests see it, and dfr0 does not", defect.name);
                }
                bad |= verdict.is_gap(defect) || verdict.only_upstream();
            }
            Ok(())
        })?;
        self.report(&list)?;
        if untested > 0 {
            bail!("{untested} of the defects cannot be built or tested");
        }
        Ok(if bad { Exit::Command(1) } else { Exit::Good })
    }

    /// What the tests see of the source as it is, on each host. Whatever fails there says nothing about a defect.
    fn without_a_defect(
        &self,
        chosen: &[(&Defect, &Host)],
        tree: &Tree,
        tester: &Tester<'_>,
    ) -> Result<BTreeMap<String, Verdict>> {
        let kernel = tester.builds(tree, &Changes::default())?;
        let mut clean = BTreeMap::new();
        let hosts: BTreeMap<_, _> = chosen.iter().map(|(_, host)| (&host.name, *host)).collect();
        for (name, host) in hosts {
            let file = format!("clean@{name}");
            let subject = Subject { name: &file, digest: None, cases: &[] };
            let verdict = self.verdict(subject, &kernel, host, None, tester)?;
            eprintln!("lab: without a defect, on {name}: {}", describe(&verdict.dfr0));
            if let Some(why) = &verdict.dfr0.died {
                bail!("the kernel without a defect does not run on {name}: {why}");
            }
            for (test, _) in verdict.upstream.iter().filter(|(_, failed)| **failed) {
                eprintln!(
                    "lab: without a defect, on {name}: upstream's {test} fails, and is not run on defects"
                );
            }
            clean.insert(name.clone(), verdict);
        }
        Ok(clean)
    }

    /// The verdict from the directory, with new runs of what is outdated in it. `clean` is that of the kernel without a defect.
    fn verdict(
        &self,
        subject: Subject<'_>,
        kernel: &Kernel,
        host: &Host,
        clean: Option<&Verdict>,
        tester: &Tester<'_>,
    ) -> Result<Verdict> {
        let Subject { name, digest, cases } = subject;
        let place = self.out.join(format!("{name}.json"));
        let errand = tester.dfr0(cases)?;
        let on = format!("{} {}", kernel.identity.sha256, host.name);
        let key = sha256(format!("{on} {} {cases:?}", errand.sha256()?).as_bytes())?;
        let upstream_key = tester.upstream_key(&on)?;
        let mut verdict = read_json::<Verdict>(&place).unwrap_or_default();
        let is_known = (&verdict.key, &verdict.digest) == (&key, &digest);
        // Without upstream's tests, what is known of them stays with what is known of dfr0.
        let is_complete = verdict.upstream_key == upstream_key || (is_known && upstream_key.is_none());
        if is_known && is_complete {
            return Ok(verdict);
        }
        if !is_known {
            let kept = place.with_extension("jsonl");
            verdict.dfr0 = tester.sees(&errand, host, kernel, clean, &kept)?;
            if !verdict.dfr0.something() && !cases.is_empty() {
                // The file may name too few cases.
                let sample = tester.dfr0(&SAMPLE.map(ToOwned::to_owned))?;
                verdict.dfr0 = tester.sees(&sample, host, kernel, clean, &kept)?;
            }
        }
        if !is_complete {
            verdict.upstream = tester.runs_upstream(host, kernel, clean)?;
        }
        let source = kernel.identity.source.clone().unwrap_or_default();
        let verdict = Verdict { key, digest, source, host: host.name.clone(), upstream_key, ..verdict };
        write_json(&place, &verdict)?;
        Ok(verdict)
    }

    /// Prints what survives, of all that the directory has, and writes the page. The verdict of a defect that has been
    /// changed since is left out.
    fn report(&self, list: &List) -> Result<()> {
        let found = |defect: &Defect| {
            let verdict: Verdict = read_json(&self.out.join(format!("{}.json", defect.name))).ok()?;
            (verdict.digest == defect.digest().ok()).then_some(verdict)
        };
        let verdicts: Vec<Option<Verdict>> = list.defects.iter().map(found).collect();
        let rows: Vec<_> = list.defects.iter().zip(verdicts.iter().map(Option::as_ref)).collect();
        let named = |which: &dyn Fn(&Defect, &Verdict) -> bool| {
            let names: Vec<_> = rows
                .iter()
                .filter(|(defect, verdict)| verdict.is_some_and(|verdict| which(defect, verdict)))
                .map(|(defect, _)| defect.name.as_str())
                .collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        eprintln!("lab: survives without a reason: {}", named(&|defect, verdict| verdict.is_gap(defect)));
        if rows.iter().any(|(_, verdict)| verdict.is_some_and(|verdict| !verdict.upstream.is_empty())) {
            let only = named(&|_, verdict| verdict.only_upstream());
            eprintln!("lab: seen by upstream's tests and not by dfr0: {only}");
        }
        if let Some(page) = &self.page {
            let before = match fs::read_to_string(page) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot read {}", page.display()));
                }
                before => before.unwrap_or_default(),
            };
            write_whole(page, 0o644, |file| Ok(file.write_all(table(&rows, &before).as_bytes())?))?;
        }
        Ok(())
    }
}

/// The programs in a directory.
fn upstream_tests(directory: &Path) -> Result<Vec<(String, Errand)>> {
    let failed = || format!("cannot read {}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.contains('.') && entry.path().is_file() {
            names.push(name);
        }
    }
    if names.is_empty() {
        bail!("{} has no test", directory.display());
    }
    names.sort();
    let errand =
        |name: String| Ok((name.clone(), Errand::new(&[directory.join(&name).display().to_string()], None)?));
    names.into_iter().map(errand).collect()
}

fn describe(seen: &Seen) -> String {
    match (&seen.failed[..], &seen.died) {
        ([], None) => "nothing failed".into(),
        ([], Some(why)) => why.clone(),
        ([one], None) => format!("{one} failed"),
        ([first, others @ ..], None) => format!("{first} and {} more failed", others.len()),
        ([first, others @ ..], Some(why)) => format!("{first} and {} more failed; {why}", others.len()),
    }
}

/// How a program in a host ended.
enum Ended {
    Status(u8),
    /// It did not end by itself.
    Died(String),
}

impl Tester<'_> {
    /// The kernel of a tree with these changes.
    fn builds(&self, tree: &Tree, changes: &Changes) -> Result<Kernel> {
        let image = kernel_source::build(tree, changes, self.cache, self.signals)?;
        let source = Some(tree.described(self.signals)?);
        let identity = Image { path: image.clone(), source }.identity()?;
        Ok(Kernel { image, identity })
    }

    /// A run with these arguments: cases, or none for all.
    fn dfr0(&self, arguments: &[String]) -> Result<Errand> {
        let run = ["./dfr0", "run", "--results", "-"].map(ToOwned::to_owned);
        Errand::new(&[&run, arguments].concat(), Some(self.bundle))
    }

    /// What a run of dfr0 sees of a kernel that it does not see of the kernel without a defect. Its results are left in `kept`.
    fn sees(
        &self,
        errand: &Errand,
        host: &Host,
        kernel: &Kernel,
        clean: Option<&Verdict>,
        kept: &Path,
    ) -> Result<Seen> {
        let (stdout, ended) = self.runs(errand, host, kernel)?;
        write_whole(kept, 0o644, |file| Ok(file.write_all(&stdout)?))?;
        let mut failed = failed_cases(&String::from_utf8_lossy(&stdout));
        let died = match ended {
            Ended::Status(0) => None,
            Ended::Status(SKIPPED) => bail!(
                "on {} every case was skipped: the host does not have what they need, or this kernel has no KVM",
                host.name
            ),
            Ended::Status(1) if !failed.is_empty() => None,
            Ended::Status(status) => Some(format!("dfr0 exited with {status}")),
            Ended::Died(why) => Some(why),
        };
        failed.retain(|name| clean.is_none_or(|clean| !clean.dfr0.failed.contains(name)));
        Ok(Seen { failed, died })
    }

    /// The digest of all that upstream's tests depend on; none, if they are not run.
    fn upstream_key(&self, on: &str) -> Result<Option<String>> {
        if self.upstream.is_empty() {
            return Ok(None);
        }
        let mut all = on.to_owned();
        for (test, errand) in &self.upstream {
            all += &format!(" {test} {}", errand.sha256()?);
        }
        sha256(all.as_bytes()).map(Some).map_err(Into::into)
    }

    /// Which of upstream's tests fail on a kernel. A test that is skipped says nothing, and neither does one that does not pass
    /// on the kernel without a defect.
    fn runs_upstream(
        &self,
        host: &Host,
        kernel: &Kernel,
        clean: Option<&Verdict>,
    ) -> Result<BTreeMap<String, bool>> {
        let says_nothing = |test| clean.is_some_and(|clean| clean.upstream.get(test) != Some(&false));
        let tests = self.upstream.iter().filter(|(test, _)| !says_nothing(test)).collect();
        let run = |(_, errand): &&(String, Errand)| Ok(self.runs(errand, host, kernel)?.1);
        let mut failed = BTreeMap::new();
        pool::run(tests, HOSTS_AT_ONCE, self.signals, &run, |(test, _), ended| {
            match ended {
                None | Some(Ended::Status(SKIPPED)) => {}
                Some(ended) => {
                    failed.insert(test.clone(), !matches!(ended, Ended::Status(0)));
                }
            }
            Ok(())
        })?;
        Ok(failed)
    }

    /// What a program printed on a kernel, and how it ended.
    fn runs(&self, errand: &Errand, host: &Host, kernel: &Kernel) -> Result<(Vec<u8>, Ended)> {
        let qemu = qemu_of(host, self.cache, self.signals)?;
        let initramfs = errand.initramfs(host, &kernel.identity)?;
        let machine = VirtualMachine { qemu: &qemu, host, kernel: &kernel.image, initramfs, verbose: false };
        let mut stdout = Stdout(Vec::new());
        let ended = match machine.run(self.deadline, self.signals, Console::new(&mut stdout, false)) {
            Ok(Outcome::Exited(status)) => Ended::Status(status),
            Ok(Outcome::Killed(signal)) => Ended::Died(format!("the program was killed by signal {signal}")),
            Ok(Outcome::Refused(why)) => Ended::Died(first_line(&why)),
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => Ended::Died(first_line(&error.to_string())),
        };
        Ok((stdout.0, ended))
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Keeps what a program writes to stdout.
struct Stdout(Vec<u8>);

impl Output for &mut Stdout {
    fn stdout(&mut self, bytes: &[u8]) -> Result<()> {
        let left = LARGEST.saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(left)]);
        Ok(())
    }

    fn stderr(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    fn note(&mut self, _line: &str) -> Result<()> {
        Ok(())
    }
}
