use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind, Read, Seek};
use std::path::{Path, PathBuf};

/// The damaged end of a write-ahead log. SQLite reads a log up to the first frame whose checksum differs, and takes that for the end:
/// a commit behind it is lost without an error (<https://sqlite.org/fileformat2.html#the_write_ahead_log>).
#[derive(Debug, PartialEq)]
pub(crate) struct DamagedLog {
    pub(crate) path: PathBuf,
    /// The first damaged frame; 0 for the header, without which SQLite reads no frame.
    pub(crate) frame: u64,
    /// The transactions that were committed in that frame or behind it.
    pub(crate) transactions: u64,
    /// The numbers that are common to all frames since the log last restarted.
    pub(crate) salts: Salts,
}

type Salts = [u32; 2];

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const MAGIC: u32 = 0x377f_0682;

impl DamagedLog {
    /// Looks for damage in the log of a database file. To be called before SQLite opens the file, because it then writes to the log.
    pub(crate) fn find(database: &Path) -> io::Result<Option<Self>> {
        let path = log_of(database);
        let mut log = match File::open(&path) {
            Ok(log) => BufReader::new(log),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(header) = read::<HEADER>(&mut log)? else { return Ok(None) };
        let found = Self::read(path, Header(header), page_size(database)?, &mut log)?;
        // Another process may have restarted the log meanwhile, and frames from before are behind its own.
        log.rewind()?;
        Ok(found.filter(|_| read(&mut log).is_ok_and(|again| again == Some(header))))
    }

    fn read(path: PathBuf, header: Header, page_size: usize, log: &mut impl Read) -> io::Result<Option<Self>> {
        let (mut salts, mut checksum, mut damaged) = (header.salts(), header.checksum(), None);
        if checksum.is_none() {
            damaged = Some(0);
        }
        let (mut transactions, mut number) = (0, 0);
        let mut frame = vec![0; FRAME_HEADER + page_size];
        while is_filled(log, &mut frame)? {
            number += 1;
            let known = [8, 12].map(|at| word(&frame, at));
            if number == 1 && damaged.is_some() {
                salts = known;
            }
            checksum = checksum.filter(|_| word(&frame, 0) > 0 && known == salts).and_then(|before| {
                let sum =
                    [&frame[..8], &frame[FRAME_HEADER..]].into_iter().fold(before, |sum, bytes| header.sum(sum, bytes));
                (sum == [16, 20].map(|at| word(&frame, at))).then_some(sum)
            });
            // One of the salts may be what is damaged. Both differ in frames from before the log restarted, and a transaction
            // that was not committed has no frame with the size of the database.
            let is_of_log = known.iter().zip(salts).any(|(known, salt)| *known == salt);
            if checksum.is_none() && is_of_log {
                damaged.get_or_insert(number);
                transactions += u64::from(word(&frame, 4) > 0);
            }
        }
        Ok(damaged.filter(|_| transactions > 0).map(|frame| Self { path, frame, transactions, salts }))
    }
}

struct Header([u8; HEADER]);

impl Header {
    fn salts(&self) -> Salts {
        [16, 20].map(|at| word(&self.0, at))
    }

    /// Returns the checksum with which that of the first frame begins; `None` if the header is damaged.
    fn checksum(&self) -> Option<[u32; 2]> {
        let sum = self.sum([0; 2], &self.0[..24]);
        (word(&self.0, 0) & !1 == MAGIC && sum == [24, 28].map(|at| word(&self.0, at))).then_some(sum)
    }

    /// Adds bytes to a checksum.
    fn sum(&self, checksum: [u32; 2], bytes: &[u8]) -> [u32; 2] {
        let is_big_endian = word(&self.0, 0) & 1 == 1;
        bytes
            .chunks_exact(4)
            .map(|bytes| if is_big_endian { word(bytes, 0) } else { word(bytes, 0).swap_bytes() })
            .enumerate()
            .fold(checksum, |[first, second], (at, word)| match at % 2 {
                0 => [first.wrapping_add(word).wrapping_add(second), second],
                _ => [first, second.wrapping_add(word).wrapping_add(first)],
            })
    }
}

/// Returns the path of the log of a database file.
pub(crate) fn log_of(database: &Path) -> PathBuf {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Returns the page size of a database file, or SQLite's default for one without a header.
fn page_size(database: &Path) -> io::Result<usize> {
    let mut header = [0; 18];
    let is_there = fs::exists(database)? && is_filled(&mut File::open(database)?, &mut header)?;
    Ok(match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size if is_there && size.is_power_of_two() && size >= 512 => size.into(),
        _ => 4_096,
    })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn read<const N: usize>(from: &mut impl Read) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    Ok(is_filled(from, &mut bytes)?.then_some(bytes))
}

/// Fills the bytes; false at the end.
fn is_filled(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(bytes) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}
