//! Filling of weights from the model's file, by several threads.
//!
//! Weights are divided into pieces, which threads take one after the other. Memory that is new to the process costs a
//! page fault for every 4 KB. Two CPUs therefore fill even plain weights faster than one. Weights that are stored in a
//! smaller type are read in small parts, which stay in the CPU's cache until they are expanded.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};
use std::thread;

use model_expansion::{Channels, fp16, int8};

use crate::growing_file::GrowingFile;
use crate::sys::read_exact_at;

/// Size of the parts of a stored weight, in bytes.
pub(super) const PART: usize = 64 * 1024;
/// Size of a piece in memory, in bytes: some hundred microseconds of work.
const PIECE: usize = 1024 * 1024;
/// Number of FP32 elements of a piece.
const ELEMENTS: usize = PIECE / size_of::<f32>();

/// Memory of a weight, or of a part of it, with the form of its elements in the file.
pub(super) enum Target<'a> {
    /// Bytes as they are in the file.
    Plain(&'a mut [MaybeUninit<u8>]),
    /// FP32 elements, which are FP16 in the file.
    Fp16(&'a mut [MaybeUninit<f32>]),
    /// FP32 elements from an index on, which are 8-bit integers in the file.
    Int8(&'a mut [MaybeUninit<f32>], usize, Channels<'a>),
}

/// A target, and the position of its content in the file.
pub(super) struct Piece<'a> {
    pub(super) position: u64,
    pub(super) target: Target<'a>,
}

impl Piece<'_> {
    /// Divides the target into pieces for threads.
    fn divided(self) -> Vec<Self> {
        let position = self.position;
        let piece = |stored: usize, target| Piece {
            position: position + stored as u64,
            target,
        };
        match self.target {
            Target::Plain(bytes) => {
                let parts = bytes.chunks_mut(PIECE).enumerate();
                parts
                    .map(|(index, bytes)| piece(index * PIECE, Target::Plain(bytes)))
                    .collect()
            }
            Target::Fp16(elements) => {
                let parts = elements.chunks_mut(ELEMENTS).enumerate();
                parts
                    .map(|(index, elements)| piece(2 * index * ELEMENTS, Target::Fp16(elements)))
                    .collect()
            }
            Target::Int8(elements, first, channels) => {
                let parts = elements.chunks_mut(ELEMENTS).enumerate();
                parts
                    .map(|(index, elements)| {
                        let offset = index * ELEMENTS;
                        piece(offset, Target::Int8(elements, first + offset, channels))
                    })
                    .collect()
            }
        }
    }

    /// Fills the target. The buffer has [`PART`] bytes. `wait` waits until the bytes before a position are in the file.
    fn fill(
        self,
        file: &File,
        buffer: &mut [u8],
        wait: impl Fn(u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let position = self.position;
        match self.target {
            Target::Plain(bytes) => {
                wait(position + bytes.len() as u64)?;
                // SAFETY: the memory is valid for writes of its length, and is borrowed exclusively.
                unsafe { read_exact_at(file, bytes.as_mut_ptr().cast(), bytes.len(), position)? };
            }
            Target::Fp16(elements) => {
                for (index, elements) in elements.chunks_mut(PART / 2).enumerate() {
                    let part = &mut buffer[..2 * elements.len()];
                    let start = position + (index * PART) as u64;
                    wait(start + part.len() as u64)?;
                    file.read_exact_at(part, start)?;
                    fp16(part, elements);
                }
            }
            Target::Int8(elements, first, channels) => {
                for (index, elements) in elements.chunks_mut(PART).enumerate() {
                    let offset = index * PART;
                    let part = &mut buffer[..elements.len()];
                    let start = position + offset as u64;
                    wait(start + part.len() as u64)?;
                    file.read_exact_at(part, start)?;
                    int8(part, &channels, first + offset, elements);
                }
            }
        }
        Ok(())
    }
}

/// Fills a target from a file that is still being written. Returns when the last byte of the target is written and
/// used, or with an error when the writer has ended before. The buffer has [`PART`] bytes.
pub(super) fn fill_arriving(
    file: &GrowingFile,
    target: Piece<'_>,
    buffer: &mut [u8],
) -> io::Result<()> {
    let wait = |end| file.wait_for(end).map(drop);
    target.fill(file.file(), buffer, wait)
}

/// Fills all targets from the file, by at most `threads` threads. The caller is one of them.
pub(super) fn fill(file: &File, targets: Vec<Piece<'_>>, threads: usize) -> io::Result<()> {
    let pieces: Vec<_> = targets.into_iter().flat_map(Piece::divided).collect();
    let helpers = threads.min(pieces.len()).saturating_sub(1);
    let pieces = Mutex::new(pieces.into_iter());
    let next = || {
        let mut pieces = pieces.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.next()
    };
    let work = || {
        let mut buffer = vec![0; PART];
        std::iter::from_fn(next).try_for_each(|piece| piece.fill(file, &mut buffer, |_| Ok(())))
    };
    thread::scope(|scope| {
        // Without memory for a thread, the others do its work. The scheduling policy is the caller's.
        let spawn = |_| {
            let thread = thread::Builder::new().name("load-model".to_owned());
            thread.spawn_scoped(scope, work).ok()
        };
        let helpers: Vec<_> = (0..helpers).map_while(spawn).collect();
        let own = work();
        let results = helpers.into_iter().map(|helper| match helper.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.fold(own, Result::and)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use half::f16;

    use super::*;

    /// Element as it is in the file, as its bytes and as a number.
    type Stored = (Vec<u8>, f32);

    fn file(before: usize, elements: &[Stored]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![0; before]).unwrap();
        let bytes: Vec<u8> = elements
            .iter()
            .flat_map(|(bytes, _)| bytes.clone())
            .collect();
        file.write_all(&bytes).unwrap();
        file
    }

    fn same(memory: &[MaybeUninit<f32>], expected: &[Stored]) {
        for (place, (found, (_, expected))) in memory.iter().zip(expected).enumerate() {
            // SAFETY: the tests begin with initialised elements.
            let found = unsafe { found.assume_init() };
            assert_eq!(found.to_bits(), expected.to_bits(), "element {place}");
        }
    }

    /// More than two pieces, of which the last is not full.
    const COUNT: usize = 2 * ELEMENTS + 4_711;

    #[test]
    fn pieces_are_filled_from_their_positions() {
        let scales = [0.5, 0.25, 3.0];
        // A prime number of bytes, so that pieces and parts differ.
        let bytes = || (0..251_u8).cycle().step_by(7).take(COUNT);
        let integers = bytes().enumerate().map(|(place, byte)| {
            let number = f32::from(byte.cast_signed()) * scales[place / 1_000 % 3];
            (vec![byte], number)
        });
        let halves = bytes().map(|byte| {
            let number = f32::from(byte);
            (f16::from_f32(number).to_le_bytes().to_vec(), number)
        });
        let plain = bytes().map(|byte| {
            let number = f32::from(byte) / 3.0;
            (number.to_le_bytes().to_vec(), number)
        });
        for threads in [1, 3] {
            let integers: Vec<Stored> = integers.clone().collect();
            let mut memory = vec![MaybeUninit::new(f32::NAN); COUNT];
            let channels = Channels {
                scales: &scales,
                run: 1_000,
            };
            let piece = Piece {
                position: 9,
                target: Target::Int8(&mut memory, 0, channels),
            };
            fill(&file(9, &integers), vec![piece], threads).unwrap();
            same(&memory, &integers);

            let halves: Vec<Stored> = halves.clone().collect();
            let piece = Piece {
                position: 3,
                target: Target::Fp16(&mut memory),
            };
            fill(&file(3, &halves), vec![piece], threads).unwrap();
            same(&memory, &halves);

            let plain: Vec<Stored> = plain.clone().collect();
            // SAFETY: the elements are valid for writes of four bytes each.
            let bytes =
                unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast(), 4 * COUNT) };
            let piece = Piece {
                position: 1,
                target: Target::Plain(bytes),
            };
            fill(&file(1, &plain), vec![piece], threads).unwrap();
            same(&memory, &plain);
        }
    }

    #[test]
    fn a_file_that_is_too_short_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(ELEMENTS as u64).unwrap();
        let channels = Channels {
            scales: &[1.0],
            run: 1,
        };
        for threads in [1, 2] {
            let mut memory = vec![MaybeUninit::new(0.0); COUNT];
            let piece = Piece {
                position: 0,
                target: Target::Int8(&mut memory, 0, channels),
            };
            assert!(fill(&file, vec![piece], threads).is_err());
            let piece = Piece {
                position: 0,
                target: Target::Fp16(&mut memory),
            };
            assert!(fill(&file, vec![piece], threads).is_err());
        }
    }
}
