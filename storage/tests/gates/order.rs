//! What the writer refuses: it is the last one that could notice a second owner.

use crate::common::{Content, Setup, TestLog, block, shared};
use semj_storage::backend::MemoryBackend;
use semj_storage::log::{AppendError, Codec};

const SETUP: Setup = Setup { segment_bytes: 1 << 20, preallocate: false };

/// A block of another epoch, or one that does not come next, changes nothing.
pub fn only_the_next_block_of_this_epoch_is_accepted() {
    let disk = MemoryBackend::default();
    let mut model = vec![Content { tag: 1, filler: 9 }, Content { tag: 2, filler: 9 }];
    let mut log = TestLog::open(&shared(&disk), SETUP).unwrap();
    log.append(&model, Codec::None).unwrap();
    log.writer.sync().unwrap();
    drop(log);
    let mut log = TestLog::open(&shared(&disk.kill_image()), SETUP).unwrap();
    let epoch = log.writer.epoch();
    assert!(epoch >= 2, "every owner has an epoch of its own");
    let next = Content { tag: 3, filler: 9 };
    let refused = [(epoch - 1, 3), (epoch + 1, 3), (0, 3), (epoch, 2), (epoch, 4)];
    for (found, first) in refused {
        let answer = log.writer.append(&mut block(first, &[next], Codec::None), found, 1);
        let right = match answer {
            Err(AppendError::Fenced { found: f, current }) => (f, current) == (found, epoch),
            Err(AppendError::OutOfOrder { found: f, expected }) => {
                found == epoch && (f, expected) == (first, 3)
            }
            _ => false,
        };
        assert!(right, "block of event {first} in epoch {found}, expected 3 in {epoch}: {answer:?}");
        assert_eq!(log.writer.written(), 2);
    }
    log.append(&[next], Codec::None).unwrap();
    log.writer.sync().unwrap();
    model.push(next);
    log.assert_holds(&model, &"after refusals");
}
