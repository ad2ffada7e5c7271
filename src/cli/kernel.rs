//! `semj kernel`: the kernel's bytes as JSON, JSON as the kernel's bytes, and whether bytes are sound.

use super::out::{Out, json_line, json_text};
use super::outcome::{Ended, Outcome, code};
use super::{Context, escape, kernel_sync, kernel_where};
use clap::{Args, Subcommand, ValueEnum};
use semj::kernel::{Kind, Reject, bytes_of, show};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Read, write and check the kernel's records, blocks and heads of streams
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  semj kernel check kernel.semj\n  semj kernel decode --json kernel.semj | jq .header.event_id\n  semj kernel decode --full --json kernel.semj | semj kernel encode > same.semj"
)]
pub(crate) struct Kernel {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show what the bytes hold, one object each; ends with 3 at bytes that are refused
    #[command(
        after_help = "Without --full, payloads over 256 bytes and more than 4 links are named by their hash.\n\nExample:\n  semj kernel decode --json kernel.semj\n  semj export --format semj | semj kernel decode --json -"
    )]
    Decode(Decode),
    /// Write the bytes of objects as `decode` shows them; ends with 3 at an object that is refused
    ///
    /// Sizes, counts, hashes and checksums may be left out; where they are given they must agree.
    #[command(
        after_help = "Example:\n  echo '{\"header\":{\"event_id\":2,\"event_type\":257},\"context\":{\"path\":\"/a\"}}' | semj kernel encode > one.semj"
    )]
    Encode(Encode),
    /// Say whether the bytes are sound, and why not; ends with 1 when they are not
    #[command(
        after_help = "Example:\n  semj kernel check kernel.semj\n  semj kernel check --json - < record.bin"
    )]
    Check(Check),
    /// Journal the records that another program writes, each once, and go on where it was left
    ///
    /// Losses, repetitions and new lives of the kernel become events; what was read and where to go on are committed together.
    #[command(
        after_help = "Example:\n  semj -j ./journal kernel sync /var/run/kernel.semj\n  semj -j ./journal kernel sync --follow --json kernel.fifo"
    )]
    Sync(kernel_sync::Sync),
    /// Journal what anybody changes in folders, until interrupted
    ///
    /// Each change becomes an event with the name of the source; what happened while nobody watched is a gap.
    #[command(
        after_help = "Example:\n  semj -j ./journal kernel watch src docs\n  semj -j ./journal query --source watch --json | jq .path"
    )]
    Watch(kernel_sync::Watching),
    /// Say which event a source's sequence became, or which source an event comes from; ends with 1 when there is none
    ///
    /// The whole journal is looked at, not only what was journaled since it was opened.
    #[command(
        after_help = "Example:\n  semj kernel where kernel:kernel.semj 4711\n  semj kernel where --life 2 kernel:kernel.semj 17\n  semj kernel where 90210 --json"
    )]
    Where(kernel_where::Where),
    /// Say where each kernel source stands: losses, up to when nothing is missing, and how the clocks moved
    #[command(
        after_help = "Example:\n  semj kernel status\n  semj kernel status --json | jq 'select(.lost_records > 0)'"
    )]
    Status,
    /// Say what this user can observe on this machine, and what each missing source needs
    ///
    /// Every source is tried, none is guessed from a version or a user id.
    #[command(
        after_help = "Example:\n  semj kernel sources\n  semj kernel sources --json | jq 'select(.available)'"
    )]
    Sources,
}

#[derive(Args, Debug)]
struct Input {
    /// The bytes; - for stdin
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// What they are, where that cannot be seen
    #[arg(long, value_enum, default_value = "auto")]
    kind: Asked,
}

#[derive(Args, Debug)]
struct Decode {
    #[command(flatten)]
    input: Input,
    /// With everything that `encode` needs: long payloads, all links, bytes behind a NUL
    #[arg(long)]
    full: bool,
}

#[derive(Args, Debug)]
struct Encode {
    /// JSON objects, one after the other; - for stdin
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
}

#[derive(Args, Debug)]
struct Check {
    #[command(flatten)]
    input: Input,
}

/// What the bytes are said to be.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
#[value(rename_all = "snake_case")]
enum Asked {
    /// A stream: a head, blocks or records, or one of the others alone
    Auto,
    /// Event records
    Event,
    /// Causality links
    Link,
    /// Storage blocks as in the kernel's public header
    #[value(name = "block_a")]
    BlockA,
    /// A storage block of the kernel's storage engine
    #[value(name = "block_b")]
    BlockB,
    /// A head of 52 bytes
    JournalHeader,
    /// A head of 80 bytes
    UserspaceHeader,
}

impl Asked {
    /// What stands at `rest`; `first` says whether nothing stood before it.
    fn at(self, rest: &[u8], first: bool) -> Kind {
        match self {
            Asked::Event => Kind::Event,
            Asked::Link => Kind::Link,
            Asked::BlockA => Kind::BlockA,
            Asked::BlockB => Kind::BlockB,
            Asked::JournalHeader => Kind::JournalHeader,
            Asked::UserspaceHeader => Kind::UserspaceHeader,
            // Behind the head only blocks and records follow.
            Asked::Auto => match Kind::guess(rest) {
                kind if first || kind == Kind::BlockA => kind,
                _ => Kind::Event,
            },
        }
    }
}

/// A refusal and its place.
struct Refused {
    kind: Kind,
    offset: usize,
    why: Reject,
}

/// Hands the JSON form of each thing in `bytes` to `each`.
fn walk(
    asked: Asked,
    bytes: &[u8],
    full: bool,
    pretty: bool,
    mut each: impl FnMut(Kind, String) -> Outcome,
) -> Result<Result<(), Refused>, Ended> {
    let mut offset = 0;
    loop {
        let rest = bytes.get(offset..).unwrap_or_default();
        let kind = asked.at(rest, offset == 0);
        match show(kind, rest, full, pretty) {
            Ok((text, used)) => {
                each(kind, text)?;
                offset += used;
            }
            Err(why) => return Ok(Err(Refused { kind, offset, why })),
        }
        if offset >= bytes.len() {
            return Ok(Ok(()));
        }
    }
}

/// All bytes of a file, or of stdin.
fn read(file: &Path) -> Result<Vec<u8>, Ended> {
    let bytes = if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(file)
    };
    bytes.map_err(|e| Ended::usage(format!("{}: {e}", file.display())))
}

impl Kernel {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let mut out = Out::new(context.json());
        let ended = match &self.command {
            Command::Decode(args) => args.run(context, &mut out),
            Command::Encode(args) => args.run(&mut out),
            Command::Check(args) => args.run(context, &mut out),
            Command::Sync(args) => args.run(context, &mut out),
            Command::Watch(args) => args.run(context, &mut out),
            Command::Where(args) => args.run(context, &mut out),
            Command::Status => kernel_where::status(context, &mut out),
            Command::Sources => kernel_sync::sources(context, &mut out),
        };
        // What was said before a refusal is shown before the refusal.
        out.flush()?;
        ended
    }
}

impl Decode {
    fn run(&self, context: &Context, out: &mut Out) -> Outcome {
        let bytes = read(&self.input.file)?;
        let walked = walk(self.input.kind, &bytes, self.full, !context.json(), |_, text| {
            text.lines().try_for_each(|line| out.line(&json_text(line.to_owned())))
        })?;
        walked.map_err(|Refused { kind, offset, why }| Ended {
            code: code::REFUSED,
            message: format!(
                "{}: at byte {offset}, {}: {}: {why}",
                self.input.file.display(),
                kind.name(),
                why.name()
            ),
        })
    }
}

impl Encode {
    fn run(&self, out: &mut Out) -> Outcome {
        let bytes = read(&self.file)?;
        let mut number = 0u64;
        let refused = |number: u64, why: &dyn std::fmt::Display| Ended {
            code: code::REFUSED,
            message: format!("{}: object {number}: {why}", self.file.display()),
        };
        for object in serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>() {
            number += 1;
            let object = object.map_err(|e| refused(number, &format!("not JSON: {e}")))?;
            out.bytes(&bytes_of(&object).map_err(|e| refused(number, &e))?)?;
        }
        if number == 0 { Err(refused(1, &"there is none")) } else { Ok(()) }
    }
}

/// The answer of `check`.
#[derive(Serialize)]
struct Answer<'a> {
    file: String,
    valid: bool,
    kind: &'a str,
    items: u64,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Check {
    fn run(&self, context: &Context, out: &mut Out) -> Outcome {
        let bytes = read(&self.input.file)?;
        let (mut items, mut last) = (0, self.input.kind.at(&bytes, true));
        let walked = walk(self.input.kind, &bytes, false, false, |kind, _| {
            items += 1;
            last = kind;
            Ok(())
        })?;
        let mut answer = Answer {
            file: self.input.file.display().to_string(),
            valid: walked.is_ok(),
            kind: last.name(),
            items,
            bytes: bytes.len(),
            reason: None,
            offset: None,
            message: None,
        };
        if let Err(Refused { kind, offset, why }) = &walked {
            answer.kind = kind.name();
            answer.reason = Some(why.name().into_owned());
            answer.offset = Some(*offset);
            answer.message = Some(why.to_string());
        }
        let file = escape::line(&answer.file);
        let text = match &walked {
            _ if context.json() => json_line(&answer),
            Ok(()) => format!("{file}: sound: {items} in {} bytes, the last a {}", answer.bytes, answer.kind),
            Err(refused) => format!(
                "{file}: refused at byte {}, {}: {}: {}",
                refused.offset,
                answer.kind,
                refused.why.name(),
                refused.why
            ),
        };
        out.line(&text)?;
        walked.map_err(|_| Ended::quiet(code::FINDING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use semj::kernel::{Record, UserspaceHeader};

    #[test]
    fn a_stream_is_walked_to_its_first_refusal() {
        let record = Record::default().to_bytes().unwrap();
        let head = UserspaceHeader::new(2, 1, 0).encode();
        let mut bytes = [&head[..], &record, &record].concat();
        let mut kinds = Vec::new();
        let mut look = |bytes: &[u8]| {
            kinds.clear();
            let walked = walk(Asked::Auto, bytes, false, false, |kind, _| {
                kinds.push(kind.name());
                Ok(())
            });
            (walked.unwrap().map_err(|r| (r.offset, r.why.name().into_owned())), kinds.clone())
        };
        assert_eq!(look(&bytes), (Ok(()), vec!["userspace_header", "event", "event"]));
        // What is left has the length of a link, and is none.
        bytes.truncate(80 + 5412 + 160);
        assert_eq!(
            look(&bytes),
            (Err((5492, "truncated_body".to_owned())), vec!["userspace_header", "event"])
        );
        assert_eq!(look(&[]), (Err((0, "truncated_header".to_owned())), vec![]));
    }
}
