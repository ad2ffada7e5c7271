//! `semj torture` on this disk: nothing acknowledged is lost, and a loss would be told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{PATIENCE, World};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::process::Output;
use std::time::Instant;

fn report(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap()
}

/// What is left in the folder that was named.
fn left(world: &World) -> Vec<String> {
    let names =
        std::fs::read_dir(world.root()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn what_is_acknowledged_survives_everything_at_once() {
    let world = World::new();
    let output = world.run(&["torture", "--seconds", "2", "--kill-rate", "40", "--json", "."], b"");
    let report = report(&output);
    println!("{report}");
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    for key in ["lost", "repeated", "reordered", "not_dense", "torn_groups"] {
        assert_eq!(report[key], 0, "{key}");
    }
    assert_eq!(
        (&report["clean"], &report["intact"], &report["kept"]),
        (&true.into(), &true.into(), &Value::Null)
    );
    for key in ["acknowledged", "events", "lives", "disturbances", "per_second", "undisturbed_per_second"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report:#}");
    }
    for key in ["crash_to_commit", "undisturbed_to_commit", "opened_after_life", "reopened"] {
        assert!(report[key]["p50_us"].is_number() && report[key]["count"].is_number(), "{key}");
    }
    assert!(report["memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(report["restarts"].as_object().unwrap().values().any(|n| n.as_u64().unwrap() > 0), "{report:#}");
    assert!(report["seed"].is_u64() && report["io_faults"]["slow"].is_u64());
    assert!(left(&world).is_empty(), "{:?}", left(&world));
}

#[test]
fn the_mild_forms_leave_process_and_disk_alone() {
    let world = World::new();
    let args =
        ["torture", "--seconds", "500ms", "--no-sigkill", "--no-io-faults", "--seed", "7", "--json", "."];
    let output = world.run(&args, b"");
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!((&report["seed"], &report["sigkills"]), (&7.into(), &0.into()));
    assert_eq!(report["io_faults"], serde_json::json!({"full": 0, "errors": 0, "slow": 0}));
    assert_eq!(report["reopened"]["count"], 0);
}

#[test]
fn a_loss_is_told_and_its_journal_is_kept() {
    for (lie, key) in [("lost", "lost"), ("reordered", "reordered")] {
        let world = World::new();
        let args = ["torture", "--seconds", "500ms", "--no-io-faults", "--plant", lie, "--json", "."];
        let output = world.run(&args, b"");
        let report = report(&output);
        assert_eq!(output.status.code(), Some(1), "{report:#}");
        assert!(report[key].as_u64().unwrap() > 0, "{report:#}");
        assert_eq!(report["clean"], false);
        assert!(!report["problems"].as_array().unwrap().is_empty());
        let kept = world.path(report["kept"].as_str().unwrap());
        let verified = world.one(&["-j", kept.join("tortured").to_str().unwrap(), "verify", "--json"]);
        assert_eq!(verified["intact"], true, "the check was lied to, not the record");
    }
}

#[test]
fn an_interrupt_ends_it_with_what_was_found() {
    let world = World::new();
    let child = world.spawn(&["torture", "--seconds", "600", "--json", "."]);
    let since = Instant::now();
    let folder = world.path(&format!("semj-torture-{}", child.id()));
    // The second journal is made when the first life was dealt with.
    while !folder.join("undisturbed").exists() {
        assert!(since.elapsed() < PATIENCE, "nothing begins");
        std::thread::yield_now();
    }
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let report = report(&output);
    assert_eq!(output.status.code(), Some(130), "{report:#}");
    assert_eq!((&report["interrupted"], &report["clean"]), (&true.into(), &true.into()));
    assert!(left(&world).is_empty(), "{:?}", left(&world));
}
