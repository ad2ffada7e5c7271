//! `semj run` for an ordinary user with some of root's capabilities: eBPF needs two of them, and says which is missing.
#![cfg(feature = "ebpf")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::World;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Nobody in particular.
const SOMEBODY: &str = "65534";

/// A folder and a binary that everybody may use; `None` where nobody can become somebody else.
fn world() -> Option<(World, PathBuf)> {
    if !Command::new("setpriv").arg("--version").output().is_ok_and(|o| o.status.success()) {
        println!("skipped: setpriv (util-linux) is not here");
        return None;
    }
    let world = World::new();
    fs::create_dir(world.path("w")).unwrap();
    let binary = common::for_everybody(&world)?;
    Some((world, binary))
}

/// Runs semj as somebody who has these capabilities and no others.
fn with(world: &World, binary: &Path, capabilities: &[&str], args: &[&str]) -> Output {
    let list: Vec<String> = capabilities.iter().map(|c| format!("+{c}")).collect();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", SOMEBODY, "--regid", SOMEBODY, "--clear-groups"]);
    command.args(["--inh-caps", &list.join(","), "--ambient-caps", &list.join(",")]).arg(binary).args(args);
    command.current_dir(world.path("w")).env("SEMJ_JOURNAL", world.journal()).output().unwrap()
}

/// Whether root has eBPF here at all.
fn is_there(world: &World) -> bool {
    let lines = world.json(&["kernel", "sources", "--json"]);
    let why = lines[0]["need"].as_str().map(str::to_owned);
    why.inspect(|need| println!("skipped: no eBPF here even for root, it needs {need}")).is_none()
}

#[test]
fn two_capabilities_are_enough_for_ebpf_and_nothing_else_is_needed() {
    let Some((world, binary)) = world() else { return };
    if !is_there(&world) {
        return;
    }
    let script =
        "grep -E 'Cap(Eff|Amb)' /proc/self/status; echo x > mine; mkdir a; rm missing; mv mine a/moved";
    let args = ["--json", "run", "--source", "ebpf", "--", "sh", "-c", script];
    let output = with(&world, &binary, &["bpf", "perfmon"], &args);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // Bits 38 and 39.
    assert!(said.contains("CapEff:\t000000c000000000"), "no more than these two: {said}");
    let complaint = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_str(complaint.lines().last().unwrap()).unwrap();
    assert_eq!((&report["source"], &report["complete"]), (&"ebpf".into(), &true.into()));
    assert_eq!(report["failed_calls"], 1, "rm of a file that is not there");
    let effects = world.json(&["query", "--json", "--category", "filesystem", "--tag", "observed"]);
    let root = fs::canonicalize(world.path("w")).unwrap();
    for (kind, name) in [("create", "mine"), ("write", "mine"), ("mkdir", "a"), ("rename", "mine")] {
        let path = root.join(name).display().to_string();
        let found = effects.iter().find(|e| {
            e["type"] == format!("filesystem.{kind}") && e["path"] == path && e["links"][0]["strength"] == 100
        });
        assert!(found.is_some(), "{kind} {name}: {effects:?}");
    }
    assert!(!effects.iter().any(|e| e["path"].as_str().unwrap().ends_with("missing")), "{effects:?}");
    let failed = world.json(&["query", "--json", "--tag", "failed"]);
    assert_eq!((&failed[0]["name"], failed.len()), (&"file.failed".into(), 1));
    assert_eq!(
        (&failed[0]["payload"]["semj.op"], &failed[0]["payload"]["semj.result"]),
        (&"delete".into(), &Value::from(-2))
    );
}

#[test]
fn one_of_the_two_is_not_enough_and_the_other_is_named() {
    let Some((world, binary)) = world() else { return };
    if !is_there(&world) {
        return;
    }
    for (capability, missing) in
        [("bpf", "CAP_PERFMON beside CAP_BPF"), ("perfmon", "CAP_BPF and CAP_PERFMON")]
    {
        let output = with(&world, &binary, &[capability], &["kernel", "sources", "--json"]);
        let lines: Vec<Value> =
            output.stdout.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
        let ebpf = &lines[0];
        assert_eq!(
            (&ebpf["source"], &ebpf["available"], &ebpf["errno"]),
            (&"ebpf".into(), &false.into(), &1.into())
        );
        assert!(ebpf["need"].as_str().unwrap().starts_with(missing), "{ebpf}");
        assert!(ebpf["remedy"].as_str().unwrap().contains("setcap cap_bpf,cap_perfmon+ep"), "{ebpf}");
        assert!(ebpf["fallback"].as_str().unwrap().starts_with("fanotify"), "{ebpf}");
        let output = with(&world, &binary, &[capability], &["run", "--", "true"]);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("seen by seccomp beside inotify"));
    }
}
