//! A planner, a coder and a tester in threads of their own. Rules stand where a language model would think; the tools,
//! the files and the failing tests are real.

use semj::event::Link;
use semj::{Emitter, Event, Journal, Ticket};
use serde_json::json;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;
use uuid::Uuid;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// The program under repair, in the workspace.
pub(crate) const PROGRAM: &str = "slug.sh";
const TESTS: &str = "tests/run.sh";
const ROUNDS_MAX: usize = 6;

const PROGRAM_TEXT: &str = "#!/bin/sh\n# Turns a title into a slug.\nprintf '%s\\n' \"$1\" | tr ' ' '-'\n";
const TESTS_TEXT: &str = r#"#!/bin/sh
failed=0
check() {
  got=$(sh slug.sh "$1")
  if [ "$got" = "$2" ]; then echo "ok   '$1'"; else echo "FAIL '$1': expected '$2', got '$got'"; failed=1; fi
}
check "Hello World" "hello-world"
check "semj: a journal!" "semj-a-journal"
check "two  spaces" "two-spaces"
exit $failed
"#;

/// What the coder knows: what a wrong answer looks like, and the stage of the pipe that mends it.
struct Rule {
    why: &'static str,
    stage: &'static str,
    fits: fn(expected: &str, got: &str) -> bool,
}

const RULES: [Rule; 3] = [
    Rule {
        why: "the answer has capital letters, so lower them",
        stage: "tr 'A-Z' 'a-z'",
        fits: |expected, got| expected != got && got.chars().any(char::is_uppercase),
    },
    Rule {
        why: "punctuation came through, so keep letters, digits and dashes only",
        stage: "tr -cd 'a-z0-9\\n-'",
        fits: |_, got| got.chars().any(|c| c.is_ascii_punctuation() && c != '-'),
    },
    Rule { why: "dashes repeat, so squeeze them", stage: "tr -s '-'", fits: |_, got| got.contains("--") },
];

/// How a session ended.
pub(crate) struct Session {
    pub(crate) name: String,
    pub(crate) said: String,
    pub(crate) rounds: usize,
    pub(crate) end: Ticket,
}

/// One agent: its emitter, its session, and the workspace its tools work in.
#[derive(Clone)]
struct Agent {
    emitter: Emitter,
    session: String,
    workspace: PathBuf,
}

/// What one agent asks of another: the events that are the reason, and where the answer goes.
struct Request {
    asked_by: Uuid,
    parent: Uuid,
    report: String,
    answer: Sender<Result<Answer, Failure>>,
}

struct Answer {
    event: Uuid,
    passed: bool,
    report: String,
}

impl Agent {
    fn emit(&self, event: Event<'_>) -> Result<Ticket, Failure> {
        Ok(self.emitter.emit_blocking(event.session(self.session.as_str()))?)
    }

    /// Runs a tool; the decision is durable before the tool starts, so that what was done is never unexplained.
    fn run(&self, command: &str, decision: Event<'_>) -> Result<Answer, Failure> {
        let call = json!({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "bash",
            "gen_ai.tool.call.arguments": {"command": command}});
        let decided = self.emit(decision.payload(call).tag("tool:bash"))?;
        decided.wait()?;
        let begun = Instant::now();
        let output = Command::new("sh").arg("-c").arg(command).current_dir(&self.workspace).output()?;
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        let code = output.status.code().unwrap_or(-1);
        let result = json!({"gen_ai.tool.name": "bash", "gen_ai.tool.call.result": report,
            "semj.exit_code": code, "semj.duration_ns": begun.elapsed().as_nanos() as u64});
        let ended = Event::named("observability.trace_span_end").ok_or("no such type")?;
        let ended = ended.intent(format!("`{command}` ended with exit code {code}"));
        let mut event = self.emit(ended.parent(decided.id()).payload(result).tag("tool:bash"))?.id();
        if code != 0 {
            let failures: Vec<&str> = report.lines().filter(|l| l.starts_with("FAIL")).collect();
            event = self.emit(Event::error(failures.join("; ")).parent(event).confidence(100))?.id();
        }
        Ok(Answer { event, passed: code == 0, report })
    }

    /// The tester's work: run the tests.
    fn test(&self, request: &Request) -> Result<Answer, Failure> {
        let decision = Event::decision(format!("run {TESTS}")).parent(request.parent);
        self.run(&format!("sh {TESTS}"), decision.link(Link::new(request.asked_by, "asked_by")))
    }

    /// The coder's work: look at what failed, choose a repair, edit the program.
    fn repair(&self, request: &Request) -> Result<Answer, Failure> {
        let file = self.workspace.join(PROGRAM);
        let text = fs::read_to_string(&file)?;
        let asked = || Link::new(request.asked_by, "asked_by");
        let read = self.emit(Event::file_read(PROGRAM).parent(request.parent).link(asked()))?;
        let fits = |line: &str| {
            let mut quoted = line.split('\'').skip(1).step_by(2).skip(1);
            let (expected, got) = (quoted.next()?, quoted.next()?);
            RULES.iter().find(|r| (r.fits)(expected, got) && !text.contains(r.stage))
        };
        let Some(rule) = request.report.lines().filter(|l| l.starts_with("FAIL")).find_map(fits) else {
            let event = self.emit(Event::error("no rule fits what failed").parent(read.id()))?;
            return Ok(Answer { event: event.id(), passed: false, report: String::new() });
        };
        let decided = Event::decision(rule.why).confidence(80).parent(request.parent);
        let decided = self.emit(decided.link(Link::new(read.id(), "informed_by")))?;
        decided.wait()?;
        let mended = format!("{} | {}\n", text.trim_end(), rule.stage);
        fs::write(&file, &mended)?;
        let payload = json!({"gen_ai.tool.name": "edit", "added": rule.stage, "bytes": mended.len()});
        let written = Event::file_write(PROGRAM).intent(format!("add `{}`", rule.stage));
        let written = written.parent(decided.id()).payload(payload).tag("tool:edit");
        let written = self.emit(written.link(Link::new(request.parent, "fixes").strength(80)))?;
        Ok(Answer { event: written.id(), passed: true, report: String::new() })
    }

    /// A sub-agent's life: say who spawned it, then answer requests until nobody asks any more.
    fn serve(
        &self,
        spawned_by: Uuid,
        requests: &Receiver<Request>,
        work: fn(&Self, &Request) -> Result<Answer, Failure>,
    ) -> Result<(), Failure> {
        let ready = Event::interaction("ready").link(Link::new(spawned_by, "spawned_by"));
        self.emit(ready)?;
        for request in requests {
            let answer = work(self, &request);
            request.answer.send(answer)?;
        }
        Ok(())
    }

    /// Asks another agent and waits for its answer.
    fn ask(
        &self,
        of: &Sender<Request>,
        what: &str,
        goal: Uuid,
        parent: Uuid,
        report: String,
    ) -> Result<Answer, Failure> {
        let ordered = Event::named("agent.orchestration").ok_or("no such type")?;
        let ordered = self.emit(ordered.intent(what.to_owned()).parent(goal))?;
        let (answer, answered) = channel();
        of.send(Request { asked_by: ordered.id(), parent, report, answer })?;
        answered.recv()?
    }

    /// The planner's loop: test, and while something fails, have it repaired and test again.
    fn plan(
        &self,
        goal: Uuid,
        coder: &Sender<Request>,
        tester: &Sender<Request>,
    ) -> Result<(usize, Answer), Failure> {
        let mut tested = self.ask(tester, "tester: how does it stand?", goal, goal, String::new())?;
        for round in 0..ROUNDS_MAX {
            if tested.passed {
                return Ok((round, tested));
            }
            let repaired = self.ask(coder, "coder: repair what failed", goal, tested.event, tested.report)?;
            tested = self.ask(tester, "tester: and now?", goal, repaired.event, String::new())?;
        }
        Ok((ROUNDS_MAX, tested))
    }
}

/// A whole session: the workspace is made, the agents work, and the last word is durable when it returns.
pub(crate) fn work(journal: &Journal, workspace: &Path) -> Result<Session, Failure> {
    fs::create_dir_all(workspace.join("tests"))?;
    fs::write(workspace.join(PROGRAM), PROGRAM_TEXT)?;
    fs::write(workspace.join(TESTS), TESTS_TEXT)?;
    let name = format!("repair-{}", &Uuid::new_v4().to_string()[..8]);
    let agent = |who: &str| Agent {
        emitter: journal.emitter(who),
        session: name.clone(),
        workspace: workspace.to_owned(),
    };
    let planner = agent("planner");
    let asked = planner.emit(Event::query("make every test of slug.sh pass").tag("role:user"))?;
    let goal = Event::decision("work with a coder and a tester").parent(asked.id());
    let goal = planner.emit(goal)?.id();
    thread::scope(|scope| {
        let (coder, coder_requests) = channel();
        let (tester, tester_requests) = channel();
        let (coding, testing) = (agent("coder"), agent("tester"));
        let coding = scope.spawn(move || coding.serve(goal, &coder_requests, Agent::repair));
        let testing = scope.spawn(move || testing.serve(goal, &tester_requests, Agent::test));
        let planned = planner.plan(goal, &coder, &tester);
        drop((coder, tester));
        coding.join().map_err(|_| "the coder panicked")??;
        testing.join().map_err(|_| "the tester panicked")??;
        let (rounds, tested) = planned?;
        let said = if tested.passed {
            format!("all tests of {PROGRAM} pass after {rounds} repairs")
        } else {
            format!("{PROGRAM} still fails after {rounds} repairs")
        };
        let end = planner.emit(Event::interaction(said.as_str()).parent(tested.event).root(asked.id()))?;
        end.wait()?;
        assert!(tested.passed, "{said}");
        Ok(Session { name: name.clone(), said, rounds, end })
    })
}
