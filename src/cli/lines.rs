//! Input by lines, none held beyond the limit.

use semj::limits::LINE_BYTES_MAX;
use std::io::{self, BufRead};

/// One line of input, without its line feed.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Line<'a> {
    /// The whole line.
    Whole(&'a [u8]),
    /// A line over the limit, of which only the length is known.
    TooLong(u64),
}

/// Splits an input into lines, as they come.
pub(crate) struct Lines<R> {
    input: R,
    line: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `input`.
    pub(crate) fn new(input: R) -> Self {
        Lines { input, line: Vec::new(), number: 0 }
    }

    /// The next line and its number, from 1; `None` at the end. The last line needs no line feed.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        self.line.clear();
        let (mut length, mut ended) = (0u64, false);
        while !ended {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if chunk.is_empty() {
                if length == 0 {
                    return Ok(None);
                }
                break;
            }
            let feed = chunk.iter().position(|b| *b == b'\n');
            let (part, _) = chunk.split_at(feed.unwrap_or(chunk.len()));
            let room = (LINE_BYTES_MAX + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(part.get(..room).unwrap_or(part));
            ended = feed.is_some();
            let taken = part.len() + usize::from(ended);
            length += taken as u64;
            self.input.consume(taken);
        }
        self.number += 1;
        let bytes = length - u64::from(ended);
        if bytes > LINE_BYTES_MAX as u64 {
            // What was held of it is of no use, and lines this long are rare.
            self.line = Vec::new();
            return Ok(Some((self.number, Line::TooLong(bytes))));
        }
        Ok(Some((self.number, Line::Whole(&self.line))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Read};

    fn all(input: impl Read) -> Vec<(u64, Result<Vec<u8>, u64>)> {
        let mut lines = Lines::new(BufReader::with_capacity(7, input));
        let mut all = Vec::new();
        while let Some((n, line)) = lines.next().unwrap() {
            all.push((
                n,
                match line {
                    Line::Whole(b) => Ok(b.to_vec()),
                    Line::TooLong(n) => Err(n),
                },
            ));
        }
        all
    }

    #[test]
    fn lines_count_physically_and_the_last_needs_no_feed() {
        let got = all(&b"a\n\nlonger than the buffer\r\nend"[..]);
        let lines: Vec<_> = got.iter().map(|(n, l)| (*n, l.clone().unwrap())).collect();
        assert_eq!(
            lines,
            [
                (1, b"a".to_vec()),
                (2, vec![]),
                (3, b"longer than the buffer\r".to_vec()),
                (4, b"end".to_vec())
            ]
        );
        assert!(all(&b""[..]).is_empty());
        assert_eq!(all(&b"\n"[..]), [(1, Ok(vec![]))]);
    }

    #[test]
    fn the_limit_passes_and_one_over_is_skipped() {
        let limit = LINE_BYTES_MAX as u64;
        let of = |n: u64| io::repeat(b'x').take(n);
        let input =
            of(limit).chain(&b"\n"[..]).chain(of(limit + 1)).chain(&b"\nnext\n"[..]).chain(of(limit + 9));
        let mut lines = Lines::new(BufReader::with_capacity(1 << 16, input));
        assert!(matches!(lines.next(), Ok(Some((1, Line::Whole(l)))) if l.len() == LINE_BYTES_MAX));
        assert_eq!(lines.next().unwrap(), Some((2, Line::TooLong(limit + 1))));
        assert!(lines.line.capacity() == 0);
        assert_eq!(lines.next().unwrap(), Some((3, Line::Whole(b"next"))));
        assert_eq!(lines.next().unwrap(), Some((4, Line::TooLong(limit + 9))));
        assert_eq!(lines.next().unwrap(), None);
    }
}
