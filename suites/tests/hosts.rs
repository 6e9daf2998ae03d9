// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! The suites in lab hosts with several kernels and shapes, and on machines where no guest can run.
//!
//! `make test` runs this with DFR0_LAB and DFR0_BUNDLE set.

use libtest_mimic::{Arguments, Failed, Trial};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Seek, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, ExitCode, Output, Stdio},
};

/// Breakpoints, watchpoints and context-aware breakpoints.
type Counts = (u8, u8, u8);

/// A host, its kernel, the release and the counts that it must report, and the value of `--every`. The host with the largest
/// shape runs everything, as `cargo test` and the certificate's host do. The others run a sample.
const HOSTS: [(&str, &str, &str, Counts, &str); 9] = [
    ("a64fx", "bookworm", "6.1.", (6, 4, 2), SAMPLE),
    ("cortex-a57", "newest", "7.", (6, 4, 2), SAMPLE),
    ("shape-16-16-4", "newest", "7.", (16, 16, 4), WHOLE),
    ("shape-4-2-1", "newest", "7.", (4, 2, 1), SAMPLE),
    ("shape-2-2-2", "newest", "7.", (2, 2, 2), SAMPLE),
    ("shape-8-4-6", "bookworm", "6.1.", (8, 4, 6), SAMPLE),
    ("nvhe-shape-16-16-4", "newest", "7.", (16, 16, 4), SAMPLE),
    ("nested-v1", "newest", "7.", (6, 4, 2), SAMPLE),
    ("protected-v1", "newest", "7.", (6, 4, 2), SAMPLE),
];

/// Values of `--every`.
const WHOLE: &str = "1";
const SAMPLE: &str = "16";

/// Hosts whose CPU also runs the suites without KVM.
const BARE: [&str; 3] = ["neoverse-v1", "neoverse-n1", "shape-16-16-4"];

/// The platform's deviations that the bare CPU of each of these hosts shows.
const PLATFORMS: [&str; 5] = [
    "qemu-atomic-wnr",
    "qemu-unlinked-context",
    "qemu-unprivileged-as-el1",
    "qemu-os-lock-masks-nothing",
    "qemu-el2-registers",
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each host has several vCPUs, so more than two hosts at a time would be too many for most machines.
    arguments.test_threads.get_or_insert(2);
    let hosts = HOSTS.map(|(host, kernel, release, counts, every)| {
        Trial::test(format!("hosts.{host}.{kernel}"), move || passes(host, kernel, release, counts, every))
    });
    let bare = BARE.map(|host| Trial::test(format!("bare.{host}"), move || passes_bare(host)));
    let places = [
        Trial::test("places.another_architecture", another_architecture),
        Trial::test("places.no_bare_cpu", no_bare_cpu),
        Trial::test("suites.one_alone", one_suite_alone),
        Trial::test("pairs.same_events_and_refused", pairs),
        Trial::test("pairs.missing", a_pair_is_missing),
        Trial::test("matrix.stopped_and_resumed", a_matrix_is_stopped_and_resumed),
        Trial::test("certificates.made_and_verified", certificate),
        Trial::test("commands.unknown_pattern", unknown_pattern),
        Trial::test("commands.unknown_option", unknown_option),
        Trial::test("commands.broken_deviations", broken_deviations),
        Trial::test("results.schema", schema),
        Trial::test("commands.explain", explain),
        Trial::test("commands.explain_without_kvm", explain_without_kvm),
        Trial::test("commands.host_check", host_check),
        Trial::test("commands.bless", bless),
        Trial::test("commands.host_check_without_a_profile", host_check_without_a_profile),
    ];
    libtest_mimic::run(&arguments, hosts.into_iter().chain(bare).chain(places).collect()).exit_code()
}

fn variable(name: &str) -> Result<String, Failed> {
    env::var(name).map_err(|_| format!("{name} is not set; `make test` sets it").into())
}

/// Runs `command` in a lab host that has a copy of the bundle.
fn in_host(arguments: &[&str], command: &[&str]) -> Result<Output, Failed> {
    in_host_with(&variable("DFR0_BUNDLE")?, arguments, command)
}

/// Runs `command` in a lab host that has a copy of this directory.
fn in_host_with(directory: &str, arguments: &[&str], command: &[&str]) -> Result<Output, Failed> {
    let mut lab = Command::new(variable("DFR0_LAB")?);
    lab.args(["exec", "--deadline", "400"]).args(arguments).args(["--with", directory, "--"]).args(command);
    Ok(lab.output()?)
}

fn ensure(holds: bool, what: &str, output: &Output) -> Result<(), Failed> {
    if holds {
        return Ok(());
    }
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("{what}: {}\n--- stdout\n{stdout}--- stderr\n{stderr}", output.status).into())
}

/// The results of a TAP stream. Its plan and numbers must be right.
fn results(output: &Output) -> Result<Vec<String>, Failed> {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    ensure(lines.next() == Some("TAP version 13"), "no header", output)?;
    let plan = lines.next().and_then(|line| line.strip_prefix("1..")?.parse::<usize>().ok());
    let results: Vec<String> =
        lines.clone().filter(|line| !line.starts_with('#')).map(ToOwned::to_owned).collect();
    ensure(plan == Some(results.len()), "the number of results differs from the plan", output)?;
    for (number, result) in (1..).zip(&results) {
        let numbered = [format!("ok {number} "), format!("not ok {number} ")];
        let right = numbered.iter().any(|start| result.starts_with(start));
        ensure(right, &format!("result {number} does not have this number: \"{result}\""), output)?;
    }
    ensure(lines.next_back().is_some_and(|line| line.starts_with("# Totals:")), "no totals", output)?;
    Ok(results)
}

fn passes(host: &str, kernel: &str, release: &str, counts: Counts, every: &str) -> Result<(), Failed> {
    let output = in_host(&["--host", host, "--kernel", kernel], &["./dfr0", "run", "--every", every])?;
    let results = results(&output)?;
    ensure(output.status.success(), "the run failed", &output)?;
    ensure(results.iter().all(|line| line.starts_with("ok ")), "a case failed", &output)?;
    ensure(results.iter().any(|line| !line.contains(" # ")), "no case passed", &output)?;
    ensure(!results.iter().any(|line| line.ends_with("# XPASS")), "a listed deviation is gone", &output)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (breakpoints, watchpoints, context_aware) = counts;
    let facts = [
        format!("# kernel: Linux {release}"),
        format!(
            "# shape: {breakpoints} breakpoints, {watchpoints} watchpoints, {context_aware} context-aware"
        ),
    ];
    for fact in facts {
        ensure(text.contains(&fact), &format!("the host does not report \"{fact}\""), &output)?;
    }
    let is_protected = text.contains("\n# kvm mode: protected\n");
    ensure(
        text.contains("\n# taints the kernel") == is_protected,
        "it does not say whether it taints",
        &output,
    )?;
    // VMs of the suite of this name are tested where KVM has them, and nowhere else.
    for mode in ["protected", "nested"] {
        let of_suite: Vec<&String> =
            results.iter().filter(|line| line.contains(&format!(" {mode}."))).collect();
        let ran = of_suite.iter().any(|line| !line.ends_with("# SKIP"));
        let wanted = text.contains(&format!("\n# kvm mode: {mode}\n"));
        let right = !of_suite.is_empty() && ran == wanted;
        ensure(right, &format!("the suite {mode} ran where it should not, or did not run"), &output)?;
    }
    Ok(())
}

/// The control: the bare CPU shows each of the platform's deviations and none of KVM's.
fn passes_bare(host: &str) -> Result<(), Failed> {
    let mut lab = Command::new(variable("DFR0_LAB")?);
    lab.args([
        "exec",
        "--deadline",
        "200",
        "--bare",
        "--host",
        host,
        "--",
        env!("CARGO_BIN_EXE_dfr0"),
        "run",
    ]);
    let output = lab.output()?;
    let results = results(&output)?;
    ensure(output.status.success(), "the run failed", &output)?;
    ensure(results.iter().all(|line| line.starts_with("ok ")), "a case failed", &output)?;
    let passed = results.iter().filter(|line| !line.contains(" # ")).count();
    ensure(passed >= 50, &format!("only {passed} cases passed"), &output)?;
    ensure(!results.iter().any(|line| line.ends_with("# XPASS")), "a listed deviation is gone", &output)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure(text.contains("\n# kernel: none, bare CPU\n"), "the header does not say so", &output)?;
    let seen = |deviation: &str| text.contains(&format!(": known deviation {deviation} of the platform\n"));
    for deviation in PLATFORMS {
        ensure(seen(deviation), &format!("{deviation} is not seen"), &output)?;
    }
    ensure(!text.contains(" of KVM\n"), "a deviation of KVM is seen without KVM", &output)
}

/// A directory that does not describe a bare CPU is an error and not a skip. The message says how to get one.
fn no_bare_cpu() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let output =
        Command::new(env!("CARGO_BIN_EXE_dfr0")).arg("run").env("DFR0_BARE", directory.path()).output()?;
    fails_with("`lab exec --bare` sets it", &output)
}

/// A certificate of a host, which is a whole run, is verified on another machine with the same verdict, and a changed byte is
/// found.
fn certificate() -> Result<(), Failed> {
    let made =
        in_host(&["--host", "neoverse-v1", "--kernel", "trixie"], &["./dfr0", "certify", "--out", "-"])?;
    ensure(made.status.success(), "the certificate was not made", &made)?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("host.dfr0");
    let verify = |bytes: &[u8]| {
        std::fs::write(&path, bytes)?;
        Ok::<_, Failed>(
            Command::new(env!("CARGO_BIN_EXE_dfr0")).args(["certify", "verify"]).arg(&path).output()?,
        )
    };
    let verified = verify(&made.stdout)?;
    ensure(verified.status.success(), "the certificate is not verified", &verified)?;
    let text = String::from_utf8_lossy(&verified.stdout);
    for fact in [
        "kernel: Linux 6.12.",
        "shape: 6 breakpoints",
        " fail:0 ",
        " xpass:0 ",
        "verdict: this host conforms, with waivers",
    ] {
        ensure(text.contains(fact), &format!("the output does not contain \"{fact}\""), &verified)?;
    }
    let report = Command::new(env!("CARGO_BIN_EXE_dfr0")).args(["report", "text"]).arg(&path).output()?;
    ensure(report.status.success(), "no report is made of the certificate", &report)?;
    for place in [1, 30, made.stdout.len() / 2, made.stdout.len() - 1] {
        let mut changed = made.stdout.clone();
        changed[place] ^= 1;
        fails_with("not a dfr0 certificate", &verify(&changed)?)?;
    }
    Ok(())
}

/// On a machine that is not arm64 the program can be built and run, and skips everything.
fn another_architecture() -> Result<(), Failed> {
    if cfg!(target_arch = "aarch64") {
        return Ok(());
    }
    let output = here(&["run"])?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure(text.starts_with("TAP version 13\n1..0 # SKIP dfr0 tests KVM/arm64"), "no skip", &output)?;
    ensure(output.status.code() == Some(4), "exit status", &output)
}

/// A suite's own program runs only that suite, with its known deviations.
fn one_suite_alone() -> Result<(), Failed> {
    let output = in_host(&["--host", "cortex-a57"], &["./dfr0_double_lock"])?;
    let results = results(&output)?;
    ensure(output.status.success(), "the run failed", &output)?;
    ensure(results.iter().all(|line| line.contains(" double_lock.")), "another suite ran", &output)?;
    let listed = results.iter().filter(|line| line.ends_with(" # XFAIL")).count();
    ensure(listed == 2, "the OS Double Lock's two deviations are not seen", &output)
}

/// Between N1 and V1 the debug hardware moves with the shape that the plan names. Between the other hosts it is refused.
fn pairs() -> Result<(), Failed> {
    const HOSTS: [&str; 3] = ["neoverse-n1@newest", "neoverse-v1@trixie", "shape-4-2-1@newest"];
    let directory = tempfile::tempdir()?;
    let moved = Command::new(variable("DFR0_LAB")?)
        .args(["pairs", "--bundle", &variable("DFR0_BUNDLE")?, "--out"])
        .arg(directory.path())
        .args(HOSTS)
        .output()?;
    ensure(moved.status.success(), "a host failed", &moved)?;
    let directory = directory.path().to_str().ok_or("a temporary directory that is not UTF-8")?;
    let output = here(&["pairs", "table", directory])?;
    ensure(output.status.success(), "a plan was wrong", &output)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rows: Vec<&str> =
        text.lines().filter(|line| line.matches('@').count() == 2 && !line.contains('→')).collect();
    ensure(rows.len() == 6, "a pair is missing", &output)?;
    let count = |outcome: &str| rows.iter().filter(|row| row.contains(outcome)).count();
    ensure(
        count("moves with a shape") == 2 && count("same events") == 2,
        "N1 and V1 should share a shape",
        &output,
    )?;
    ensure(count("refused: ID_AA64DFR0_EL1") == 4, "the other pairs should not share a shape", &output)
}

/// A directory without hosts is an error.
fn a_pair_is_missing() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().to_str().ok_or("a temporary directory that is not UTF-8")?;
    fails_with("the fingerprints of 0 hosts", &here(&["pairs", "table", path])?)
}

/// Ctrl-C while the second of two cells runs: the first is complete and is kept, and the second runs after `--resume`.
fn a_matrix_is_stopped_and_resumed() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("run");
    let lab = |more: &[&str]| -> Result<Command, Failed> {
        let mut lab = Command::new(variable("DFR0_LAB")?);
        lab.args(["matrix", "--deadline", "400", "--jobs", "1", "--kernel", "newest"])
            .args(["--host", "shape-4-2-1", "--host", "neoverse-n1", "--with", &variable("DFR0_BUNDLE")?])
            .arg("--out")
            .arg(&out)
            .args(more)
            .args(["--", "./dfr0", "run", "id_regs.wrps"]);
        lab.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(lab)
    };
    let statuses = || -> Result<String, Failed> {
        let record: serde_json::Value = serde_json::from_slice(&fs::read(out.join("matrix.json"))?)?;
        let cells = record["cells"].as_array().ok_or("matrix.json has no cells")?;
        Ok(cells.iter().map(|cell| format!("{}: {}\n", cell["host"], cell["status"])).collect())
    };

    let mut first = lab(&[])?.spawn()?;
    let mut stderr = BufReader::new(first.stderr.take().ok_or("no stderr")?);
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("shape-4-2-1@newest: exited 0") {
        if stderr.read_until(b'\n', &mut said)? == 0 {
            break;
        }
    }
    kill(Pid::from_raw(first.id().try_into()?), Signal::SIGINT)?;
    stderr.read_to_end(&mut said)?;
    let stopped = Output { stderr: said, ..first.wait_with_output()? };
    ensure(stopped.status.code() == Some(130), "exit status of a stopped run", &stopped)?;
    ensure(
        !out.join("neoverse-n1@newest").exists(),
        "there is a directory of a cell that did not end",
        &stopped,
    )?;
    let expected = "\"shape-4-2-1\": {\"exited\":0}\n\"neoverse-n1\": \"interrupted\"\n";
    ensure(statuses()? == expected, &statuses()?, &stopped)?;
    let stdout = |host: &str| out.join(format!("{host}@newest/stdout"));
    let kept = fs::metadata(stdout("shape-4-2-1"))?.ino();

    let resumed = lab(&["--resume"])?.output()?;
    ensure(resumed.status.success(), "the resumed run failed", &resumed)?;
    ensure(fs::metadata(stdout("shape-4-2-1"))?.ino() == kept, "the first cell ran again", &resumed)?;
    ensure(statuses()?.matches("{\"exited\":0}").count() == 2, &statuses()?, &resumed)?;
    for (host, counts) in [("shape-4-2-1", "4 breakpoints"), ("neoverse-n1", "6 breakpoints")] {
        let text = fs::read_to_string(stdout(host))?;
        let whole = text.contains(counts) && text.lines().any(|line| line.starts_with("# Totals:"));
        ensure(whole, &format!("{host}: {text}"), &resumed)?;
    }
    Ok(())
}

/// Runs `dfr0` on this machine.
fn here(arguments: &[&str]) -> Result<Output, Failed> {
    Ok(Command::new(env!("CARGO_BIN_EXE_dfr0")).args(arguments).output()?)
}

/// The command exits with 1, writes `message` to stderr, and prints no results.
fn fails_with(message: &str, output: &Output) -> Result<(), Failed> {
    ensure(output.status.code() == Some(1), "exit status", output)?;
    ensure(output.stdout.is_empty(), "there are results", output)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure(stderr.contains(message), &format!("stderr does not contain \"{message}\""), output)
}

/// Standard output contains each of these texts.
fn prints(texts: &[&str], output: &Output) -> Result<(), Failed> {
    let all = String::from_utf8_lossy(&output.stdout);
    texts.iter().try_for_each(|text| {
        ensure(all.contains(text), &format!("stdout does not contain \"{text}\""), output)
    })
}

fn unknown_pattern() -> Result<(), Failed> {
    fails_with("no case matches \"breakpoint\"", &here(&["run", "breakpoint"])?)
}

/// kselftest's runner would read clap's own exit status, 2, as an XFAIL.
fn unknown_option() -> Result<(), Failed> {
    fails_with("--frob", &here(&["run", "--frob"])?)?;
    fails_with("--deadline", &here(&["run", "--deadline", "0"])?)
}

fn broken_deviations() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let expected = directory.path().to_str().ok_or("a temporary directory that is not UTF-8")?;
    fails_with("holds no .toml file", &here(&["run", "--expected", expected])?)?;
    fs::write(directory.path().join("broken.toml"), "[[deviation]]\nname = 3\n")?;
    let output = here(&["run", "--expected", expected])?;
    fails_with("error: invalid type: integer `3`, expected a string\n", &output)?;
    fails_with("broken.toml:2:8\n  |\n2 | name = 3\n  |        ^\n", &output)
}

/// docs/results.schema.json accepts each line of the example with every key, of a run, and of a run on a machine without
/// KVM. It rejects a line with an additional key.
fn schema() -> Result<(), Failed> {
    const EXAMPLE: &str = include_str!("../../docs/results.example.jsonl");
    const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/results.schema.json");
    const WRONG: &str = "import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
for line in sys.stdin:
    if not validator.is_valid(json.loads(line)): print(line, end='')";
    let run = in_host(&[], &["./dfr0", "run", "--every", "20", "--results", "-", "id_regs", "os_lock"])?;
    ensure(run.status.success(), "exit status", &run)?;
    let none = here(&["run", "--results", "-", "breakpoints.fires"])?;
    let stranger = EXAMPLE.lines().next().unwrap_or_default().replacen('{', "{\"more\":1,", 1) + "\n";
    let mut lines = tempfile::tempfile()?;
    for part in [EXAMPLE.as_bytes(), &run.stdout, &none.stdout, stranger.as_bytes()] {
        lines.write_all(part)?;
    }
    lines.rewind()?;
    let has = |python: &&str| {
        let import = Command::new(python).args(["-c", "import jsonschema"]).output();
        import.is_ok_and(|output| output.status.success())
    };
    let python = ["python3", "/usr/bin/python3"].into_iter().find(has);
    let python = python.ok_or("no python3 here has the module jsonschema (python3-jsonschema in Debian)")?;
    let output = Command::new(python).args(["-c", WRONG, SCHEMA]).stdin(lines).output()?;
    ensure(output.status.success(), "exit status", &output)?;
    ensure(output.stdout == stranger.as_bytes(), "the schema rejects other lines", &output)
}

/// `explain` describes a case without running it, and says of each deviation whether it applies to this host.
fn explain() -> Result<(), Failed> {
    let cases = ["double_lock.implemented.reads_back", "id_regs.wrps.refused", "watchpoints.atomic_accesses"];
    let arguments = ["--host", "neoverse-n1", "--kernel", "bookworm"];
    let output = in_host(&arguments, &[&["./dfr0", "explain"][..], &cases].concat())?;
    ensure(output.status.success(), "exit status", &output)?;
    let lines = [
        "this host:\n  kernel: Linux 6.1.",
        "\ndouble_lock.implemented.reads_back\n  rule: ",
        "\n  section: DDI 0487K.a OSDLR_EL1",
        "  0  msr OSDLR_EL1, 0x0\n",
        "\n  known deviation osdlr-does-not-hold-dlk of KVM\n    observed: mrs OSDLR_EL1: 0x0\n",
        "\n    seen: on every kernel\n    here: it applies\n",
        "\n    here: it does not apply: userspace may not write WRPs here",
        "\n  known deviation qemu-atomic-wnr of the platform\n",
        "\n    seen: on the platform linux,dummy-virt\n    here: it applies\n",
    ];
    prints(&lines, &output)
}

/// Where no guest can run, `explain` describes everything except this host. Each case has a rule, and scenarios or the
/// reason why it has none.
fn explain_without_kvm() -> Result<(), Failed> {
    if cfg!(target_arch = "aarch64") {
        return Ok(());
    }
    let output = here(&["explain", "*"])?;
    ensure(output.status.success(), "exit status", &output)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure(text.starts_with("this host: no guest runs here"), "it does not say that no guest runs", &output)?;
    ensure(!text.contains("\n    here: "), "it says which deviations apply here", &output)?;
    let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    let cases = String::from_utf8_lossy(&here(&["list"])?.stdout).lines().count();
    ensure(
        cases > 500 && count("  rule: ") == cases && count("  scenarios: ") == cases,
        "not each case has a rule and scenarios",
        &output,
    )?;
    let listed = text.lines().filter(|line| line.starts_with("    in a VM of ")).count();
    ensure(listed > cases, "too few scenarios are listed", &output)?;
    fails_with("no case matches \"breakpoint\"", &here(&["explain", "breakpoint"])?)
}

/// A lab host is the same as its profile, with each kernel. A host with another shape differs from the profile of its model.
fn host_check() -> Result<(), Failed> {
    for (host, kernel) in [("neoverse-v1", "bookworm"), ("n1-shape-4-2-1", "newest")] {
        let arguments = ["--host", host, "--kernel", kernel];
        let output = in_host(&arguments, &["./dfr0", "host", "check"])?;
        ensure(output.status.success(), "exit status", &output)?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure(
            text.contains(&format!("\nsame as profile {host}: ")),
            "it differs from its profile",
            &output,
        )?;
        ensure(text.matches("same as").count() == 1, "it is the same as another profile", &output)?;
    }
    let command = ["./dfr0", "host", "check", "--profile", "neoverse-n1"];
    let output = in_host(&["--host", "n1-shape-4-2-1"], &command)?;
    ensure(output.status.code() == Some(1), "exit status", &output)?;
    let lines = [
        "\ndiffers from profile neoverse-n1: ",
        "\n  ID_AA64DFR0_EL1.BRPs: profile 6, host 4\n",
        "\n  ID_AA64DFR0_EL1.CTX_CMPs: profile 2, host 1\n",
        "\n  ID_AA64DFR0_EL1.WRPs: profile 4, host 2\n",
        "\n  KVM_CAP_GUEST_DEBUG_HW_BPS: profile 6, host 4\n",
        "\n  KVM_CAP_GUEST_DEBUG_HW_WPS: profile 4, host 2\n",
    ];
    prints(&lines, &output)
}

/// A CPU without a profile is not reported as different, and an unknown profile is an error.
fn host_check_without_a_profile() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("a.json");
    let fingerprint = r#"{"firecracker_version": "1", "kernel_version": "6.1.5", "guest_cpu_config": {"reg_modifiers": [
        {"addr": "0x603000000013c000", "bitmap": "0b01100001000011110000001000100000"},
        {"addr": "0x603000000013c028", "bitmap": "0b10000001100000101000000000110"}]}}"#;
    fs::write(&path, fingerprint)?;
    let path = path.to_str().ok_or("a temporary directory that is not UTF-8")?;
    let output = here(&["host", "check", path])?;
    ensure(output.status.code() == Some(4), "exit status", &output)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure(
        text.contains("\nno profile: none is for Apple M1 Icestorm on this platform; "),
        "the message",
        &output,
    )?;
    fails_with(
        "there is no profile \"graviton\"; there are graviton2, ",
        &here(&["host", "check", "--profile", "graviton", path])?,
    )
}

/// `bless` drafts the deviations that a run found and that are not listed, on any machine. A draft is not accepted until
/// somebody has completed it; then the deviation is known.
fn bless() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let run = |arguments: &[&str]| {
        let command = [&["./dfr0", "run", "double_lock", "--expected", "none"], arguments].concat();
        in_host_with(&path(""), &["--host", "cortex-a57"], &command)
    };
    let (results, drafts) = (path("results.jsonl"), path("none/drafts.toml"));
    let bless = || here(&["bless", &results, &drafts, "--expected", &path("none")]);
    fs::copy(Path::new(&variable("DFR0_BUNDLE")?).join("dfr0"), path("dfr0"))?;
    fs::create_dir(path("none"))?;
    fs::write(path("none/empty.toml"), "deviation = []\n")?;

    let found = run(&["--results", "-"])?;
    ensure(found.status.code() == Some(1), "exit status", &found)?;
    fs::write(&results, &found.stdout)?;
    let blessed = bless()?;
    ensure(blessed.status.success(), "exit status", &blessed)?;
    prints(&[": 2 drafts of 2 cases; fill in why and source of each\n"], &blessed)?;
    let draft = "error: deviation \"double-lock-implemented-reads-back\" is a draft: a person has to read the rule and cite \
                 it here\n";
    fails_with(draft, &bless()?)?;
    fails_with("drafts.toml:", &bless()?)?;

    let text = fs::read_to_string(&drafts)?;
    let cited = text.replace("why = \"\"", "why = \"It does (DDI 0487K.a OSDLR_EL1)\"");
    fs::write(&drafts, cited.replace("source = \"\"", "source = \"sys_regs.c\""))?;
    let again = run(&[])?;
    ensure(again.status.success(), "exit status", &again)?;
    let known =
        "double_lock.implemented.reads_back: known deviation double-lock-implemented-reads-back of KVM\n";
    prints(&[known, " double_lock.implemented.masks_breakpoints # XFAIL\n"], &again)?;
    let nothing = bless()?;
    ensure(nothing.status.success(), "exit status", &nothing)?;
    prints(&["nothing to draft: "], &nothing)
}
