//! Whether a command runs a program that gives privileges, as far as its words tell: under a filter of an ordinary user it
//! would run without them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Programs that run the program that their arguments name.
const RUNNERS: [&str; 9] = ["env", "nice", "nohup", "timeout", "time", "setsid", "stdbuf", "xargs", "exec"];
/// Words of a shell before which a command stands.
const BEFORE: [&str; 9] = ["!", "{", "if", "then", "else", "elif", "do", "while", "until"];

/// The first program that `command` names, and that gives privileges which its caller does not have.
pub(super) fn giver(command: &[OsString], search: &OsStr) -> Option<PathBuf> {
    let mut named: Vec<&str> = Vec::new();
    let (first, rest) = command.split_first()?;
    let first = first.to_str()?;
    named.push(first);
    let runs_others = RUNNERS.contains(&Path::new(first).file_name()?.to_str()?);
    for argument in rest.iter().filter_map(|a| a.to_str()) {
        if argument.contains(char::is_whitespace) {
            named.extend(commands(argument));
        } else if runs_others {
            named.push(argument);
        }
    }
    named.into_iter().find_map(|name| find(name, search).filter(|program| gives(program)))
}

/// The words of a script that stand where commands do.
fn commands(script: &str) -> impl Iterator<Item = &str> {
    let simple = script.split([';', '&', '|', '(', ')', '`', '\n']);
    simple.flat_map(|command| {
        let mut takes_next = true;
        command.split_whitespace().filter(move |word| {
            let stands_for_more = BEFORE.contains(word) || RUNNERS.contains(word) || word.contains('=');
            let is_command = takes_next && !stands_for_more;
            takes_next = takes_next && stands_for_more;
            is_command
        })
    })
}

/// Where a program is, as shells find it.
fn find(name: &str, search: &OsStr) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name));
    }
    let folders = search.as_bytes().split(|b| *b == b':').filter(|f| !f.is_empty());
    folders.map(|folder| Path::new(OsStr::from_bytes(folder)).join(name)).find(|path| path.is_file())
}

/// Whether running it gives privileges: set-uid, set-gid, or capabilities.
fn gives(program: &Path) -> bool {
    let by_mode = fs::metadata(program).is_ok_and(|meta| {
        let mode = meta.permissions().mode();
        meta.is_file() && mode & 0o111 != 0 && (mode & 0o4000 != 0 || mode & 0o2010 == 0o2010)
    });
    by_mode || rustix::fs::getxattr(program, "security.capability", &mut [0u8; 64]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_give_privileges_are_found_where_commands_stand_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        for (name, mode) in [("gives", 0o4755), ("plain", 0o755)] {
            let path = folder.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = folder.path().join("gives");
        let whole = path.to_str().unwrap();
        for (command, expected) in [
            (vec!["gives", "x"], true),
            (vec![whole], true),
            (vec!["plain", "gives"], false),
            (vec!["env", "A=1", "gives"], true),
            (vec!["sh", "-c", "gives x"], true),
            (vec!["sh", "-c", "cd /w && A=1 gives x"], true),
            (vec!["sh", "-c", "if true; then gives x; fi"], true),
            (vec!["sh", "-c", "x=$(gives x)"], true),
            (vec!["sh", "-c", "exec gives"], true),
            (vec!["sh", "-c", "echo gives x"], false),
            (vec!["sh", "-c", "plain; echo it gives"], false),
            (vec!["nowhere"], false),
        ] {
            let words: Vec<OsString> = command.iter().map(OsString::from).collect();
            let found = giver(&words, folder.path().as_os_str());
            assert_eq!(found.is_some(), expected, "{command:?}: {found:?}");
        }
    }
}
