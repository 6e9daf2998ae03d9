// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Programs that read TAP. Each must see the results that were printed, for a run with and a run without failures.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use crate::host::Host;
use crate::shell::{self, command, ensure, output_of, variable};
use crate::tap::{self, Line};

/// Prints what Python's tap.py reads in a file, one result per line.
const TAP_PY: &str = "
import sys
from tap.parser import Parser
for line in Parser().parse_file(sys.argv[1]):
    if line.category == 'test':
        print('SKIP' if line.skip else 'PASS' if line.ok else 'FAIL', line.description)
";

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("read_by.kunit.newest", || kunit("newest")),
        Trial::test("read_by.kunit.trixie", || kunit("trixie")),
        Trial::test("read_by.prove", prove),
    ];
    trials.push(match python_with_tap() {
        Some(python) => Trial::test("read_by.tap_py", || tap_py(python)),
        None => {
            eprintln!(
                "read_by.tap_py is skipped: no python3 here has the module tap (python3-tap in Debian)"
            );
            Trial::test("read_by.tap_py", || Ok(())).with_ignored_flag(true)
        }
    });
    trials
}

/// Files with the output of two runs: in one the deviations are known, in the other they are failures.
struct Streams(TempDir);

const FILES: [&str; 2] = ["good.tap", "bad.tap"];

impl Streams {
    fn get() -> Result<&'static Self, Failed> {
        static STREAMS: OnceLock<Result<Streams, String>> = OnceLock::new();
        let made = STREAMS.get_or_init(|| Self::make().map_err(|failed| format!("{failed:?}")));
        made.as_ref().map_err(|failed| failed.clone().into())
    }

    fn make() -> Result<Self, Failed> {
        let mut host = Host::new("newest")?.on("cortex-a57");
        host.copy_program("dfr0")?;
        fs::create_dir(host.path("nothing_known"))?;
        fs::write(host.path("nothing_known/none.toml"), "deviation = []\n")?;
        let said = host.run(
            "./dfr0 run double_lock id_regs; echo '# next'; \
             ! ./dfr0 run --expected nothing_known double_lock id_regs",
        )?;
        let (good, bad) = said.split_once("# next\n").ok_or("the host printed only one stream")?;
        let directory = shell::directory()?;
        for (file, text) in FILES.into_iter().zip([good, bad]) {
            let results = tap::results(text)?;
            let counts = [
                results.iter().any(|line| line.directive == "SKIP"),
                results.iter().any(|line| line.directive == "XFAIL") == (file == "good.tap"),
                results.iter().any(|line| !line.ok) == (file == "bad.tap"),
            ];
            ensure(counts == [true; 3], "the run does not have the right kinds of results", text)?;
            fs::write(directory.path().join(file), text)?;
        }
        Ok(Self(directory))
    }

    /// Each file and its results.
    fn each(&self) -> Result<Vec<(String, Vec<Line>)>, Failed> {
        let read = |file| {
            let path = self.0.path().join(file);
            Ok((path.display().to_string(), tap::results(&fs::read_to_string(&path)?)?))
        };
        FILES.into_iter().map(read).collect()
    }
}

/// A result for programs that only know PASS, FAIL and SKIP. An XFAIL is `ok`, so they see a PASS.
fn plain(line: &Line) -> (&str, &str) {
    let status = match (line.directive.as_str(), line.ok) {
        ("SKIP", true) => "SKIP",
        (_, true) => "PASS",
        (_, false) => "FAIL",
    };
    (status, &line.name)
}

/// The kernel's own parser sees the results.
fn kunit(kernel: &str) -> Result<(), Failed> {
    let archive = shell::run(command(variable("DFR0_LAB")?).args(["source", kernel]).stderr(Stdio::null()))?;
    let directory = shell::directory()?;
    let mut tar = command("tar");
    tar.args(["--extract", "--file", archive.trim_end(), "--directory"]).arg(directory.path());
    shell::run(tar.arg("./tools/testing/kunit"))?;
    for (file, results) in Streams::get()?.each()? {
        let json = directory.path().join("results.json");
        let mut kunit = command("python3");
        kunit.arg(directory.path().join("tools/testing/kunit/kunit.py")).arg("parse");
        let (_, said) = output_of(kunit.arg(format!("--json={}", json.display())).arg(&file))?;
        let seen: serde_json::Value = serde_json::from_str(&fs::read_to_string(&json)?)?;
        let cases = seen["test_cases"].as_array().ok_or("kunit.py wrote no test_cases")?;
        let seen: Vec<_> = cases
            .iter()
            .map(|case| (case["status"].as_str().unwrap_or(""), case["name"].as_str().unwrap_or("")))
            .collect();
        ensure(seen == results.iter().map(plain).collect::<Vec<_>>(), "kunit.py sees other results", &said)?;
        ensure(!said.contains("[ERROR]"), "kunit.py finds errors in the stream", &said)?;
        let of = |status| seen.iter().filter(|(seen, _)| *seen == status).count();
        let failed = if of("FAIL") > 0 { format!(", failed: {}", of("FAIL")) } else { String::new() };
        let counts =
            format!("Ran {} tests: passed: {}{failed}, skipped: {}", seen.len(), of("PASS"), of("SKIP"));
        ensure(said.contains(&counts), &format!("kunit.py does not say \"{counts}\""), &said)?;
    }
    Ok(())
}

/// Perl's `prove` sees the results.
fn prove() -> Result<(), Failed> {
    for (file, results) in Streams::get()?.each()? {
        let (succeeded, said) = output_of(command("prove").args(["--exec", "cat", &file]))?;
        let failed = results.iter().filter(|line| !line.ok).count();
        ensure(
            said.contains(&format!(", Tests={},", results.len())),
            "prove counts another number of tests",
            &said,
        )?;
        ensure(!said.contains("Parse errors"), "prove finds errors in the stream", &said)?;
        ensure(succeeded == (failed == 0), "prove's exit status is wrong", &said)?;
        ensure(failed == 0 || said.contains(&format!("Failed: {failed})")), "prove misses failures", &said)?;
    }
    Ok(())
}

/// A Python that has tap.py.
fn python_with_tap() -> Option<&'static str> {
    let has = |python: &&str| {
        let mut import = Command::new(python);
        import.args(["-c", "import tap.parser"]).stderr(Stdio::null());
        import.status().is_ok_and(|status| status.success())
    };
    ["python3", "/usr/bin/python3"].into_iter().find(has)
}

fn tap_py(python: &str) -> Result<(), Failed> {
    for (file, results) in Streams::get()?.each()? {
        let output =
            command(python).args(["-W", "ignore", "-c", TAP_PY, &file]).stderr(Stdio::null()).output()?;
        // tap.py first prints that it has no parser for YAML.
        let said = String::from_utf8_lossy(&output.stdout);
        let seen: Vec<_> = said
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(status, _)| ["PASS", "FAIL", "SKIP"].contains(status))
            .collect();
        ensure(seen == results.iter().map(plain).collect::<Vec<_>>(), "tap.py sees other results", &said)?;
    }
    Ok(())
}
