use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, IsTerminal, Read};
use std::path::{Path, PathBuf};

use agent_sre::adapter::{IngestLimits, IngestReport};
use agent_sre::cost::{PriceBook, Pricing};
use agent_sre::{Adapter, AgentEvent, Format, IngestError, is_protobuf};
use anyhow::{Context, bail};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};

/// Counts of what was read.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct InputStats {
    /// Lines that are not blank; a protobuf body counts as one.
    pub(crate) lines: u64,
    /// Agent events made from them.
    pub(crate) events: u64,
    /// Malformed lines.
    pub(crate) skipped: u64,
    /// Records of an unknown kind.
    pub(crate) unknown: u64,
    /// Records that belong to no open run, and calls without an end.
    pub(crate) unmatched: u64,
}

/// Maximum size of a line or a protobuf body.
const MAX_RECORD: usize = 16 << 20;
/// Size of the input from which a terminal shows a progress bar.
const LONG_INPUT: u64 = 16 << 20;
/// Maximum number of malformed lines that are reported one by one.
const MAX_REPORTED: u64 = 20;

/// What some editors and shells write before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The number of bytes of an input, at least, from which its format is detected, unless it has that many lines before.
const START_BYTES: usize = 64 << 10;
const START_LINES: usize = 16;

/// The value of `--from`.
#[derive(Clone, Copy)]
pub(crate) enum InputFormat {
    /// The format that the first records show.
    Auto,
    /// This format.
    Named(Format),
}

/// The options of commands that read a recorded run.
#[derive(clap::Args)]
pub(crate) struct RecordingArgs {
    /// The format of the input.
    #[arg(long, value_parser = formats(), default_value = "auto", value_name = "FORMAT")]
    pub(crate) from: InputFormat,
    /// Files with one record per line (for OTLP also the protobuf body of a request), or `-` for standard input.
    #[arg(required = true)]
    pub(crate) input: Vec<PathBuf>,
    /// Add costs to model calls without one, from this file: LiteLLM's price map as JSON, or a price list as YAML.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Fail on a malformed line instead of skipping it.
    #[arg(long)]
    pub(crate) strict: bool,
}

impl RecordingArgs {
    /// Returns what adds the costs: by the given prices, or by the public list prices.
    pub(crate) fn pricing(&self) -> anyhow::Result<Pricing> {
        let prices = self.prices.as_deref().map(PriceBook::load).transpose()?;
        Ok(Pricing::new(prices.unwrap_or_else(PriceBook::public)))
    }
}

/// Files with records, or standard input.
pub(crate) struct Input<'a> {
    paths: &'a [PathBuf],
    /// The first of them, if it was opened to detect the format.
    first: Option<Box<dyn BufRead>>,
}

impl<'a> Input<'a> {
    pub(crate) fn new(paths: &'a [PathBuf]) -> Self {
        Self { paths, first: None }
    }

    /// Returns the format, which is that of the first file unless it is named.
    pub(crate) fn format(&mut self, from: InputFormat) -> anyhow::Result<Format> {
        let path = match (from, self.paths.first()) {
            (InputFormat::Named(format), _) => return Ok(format),
            (InputFormat::Auto, None) => bail!("no INPUT given; pass files or `-`"),
            (InputFormat::Auto, Some(path)) => path,
        };
        let mut source = open(path)?;
        let start = read_start(&mut source).with_context(|| format!("cannot read {}", name(path)))?;
        let format = Format::detect(&start).with_context(|| format!("{}: cannot detect the format", name(path)))?;
        self.first = Some(Box::new(Cursor::new(start).chain(source)));
        Ok(format)
    }

    /// Passes every record to `adapter`, and the events it returns to `emit`.
    pub(crate) fn read(
        self,
        strict: bool,
        adapter: &mut dyn Adapter,
        emit: &mut dyn FnMut(AgentEvent),
    ) -> anyhow::Result<InputStats> {
        self.read_records(strict, &mut |record| Ok(adapter.ingest_record(record, &IngestLimits::default(), emit)?))
    }

    /// Passes every record to `ingest`.
    pub(crate) fn read_records(mut self, strict: bool, ingest: &mut IngestRecord<'_>) -> anyhow::Result<InputStats> {
        let progress = progress_bar(self.paths);
        let mut reader = Reader { stats: InputStats::default(), strict, ingest, progress, unreported: 0 };
        for path in self.paths {
            let source = self.first.take().map_or_else(|| open(path), Ok)?;
            reader.source(&name(path), source)?;
        }
        reader.progress.finish_and_clear();
        if reader.stats.skipped > MAX_REPORTED {
            errln!("… and {} more malformed lines", reader.stats.skipped - MAX_REPORTED);
        }
        Ok(reader.stats)
    }
}

/// Returns the parser of `--from`, which lists the formats with a description each.
pub(crate) fn formats() -> impl TypedValueParser<Value = InputFormat> {
    let auto = PossibleValue::new("auto").help("The format that the first records of the input show");
    let named = Format::all().map(|format| PossibleValue::new(format.as_str()).help(format.description()));
    let values = std::iter::once(auto).chain(named);
    PossibleValuesParser::new(values).map(|name| name.parse().map_or(InputFormat::Auto, InputFormat::Named))
}

/// Opens an input, after its byte order mark if it has one.
fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    let mut source: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = open_file(path).with_context(|| format!("cannot read {}", name(path)))?;
        Box::new(BufReader::with_capacity(1 << 18, file))
    };
    let start = source.fill_buf().with_context(|| format!("cannot read {}", name(path)))?;
    if start.starts_with(BYTE_ORDER_MARK) {
        source.consume(BYTE_ORDER_MARK.len());
    }
    Ok(source)
}

fn open_file(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "found a folder, expected a file"));
    }
    Ok(file)
}

/// Returns the name of an input in messages.
fn name(path: &Path) -> String {
    if path.as_os_str() == "-" { "<stdin>".to_owned() } else { path.display().to_string() }
}

/// Reads the first lines.
fn read_start(source: &mut dyn BufRead) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    for _ in 0..START_LINES {
        let of_line = Read::take(&mut *source, MAX_RECORD as u64).read_until(b'\n', &mut start)?;
        if of_line == 0 || start.len() >= START_BYTES {
            break;
        }
    }
    Ok(start)
}

fn progress_bar(paths: &[PathBuf]) -> ProgressBar {
    let length: u64 = paths.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum();
    if length < LONG_INPUT || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Reads one record: a line, or a protobuf body.
type IngestRecord<'a> = dyn FnMut(&[u8]) -> Result<IngestReport, IngestError> + 'a;

struct Reader<'a, 'b> {
    stats: InputStats,
    strict: bool,
    ingest: &'a mut IngestRecord<'b>,
    progress: ProgressBar,
    unreported: u64,
}

impl Reader<'_, '_> {
    fn source(&mut self, name: &str, mut input: impl BufRead) -> anyhow::Result<()> {
        if is_protobuf(input.fill_buf().with_context(|| format!("cannot read {name}"))?) {
            return self.body(name, input);
        }
        // Joins a line that spans two buffers; any other line is read from the buffer itself.
        let mut partial: Vec<u8> = Vec::new();
        let mut number = 1;
        loop {
            let buffer = input.fill_buf().with_context(|| format!("cannot read {name}"))?;
            if buffer.is_empty() {
                return self.line(name, number, &partial);
            }
            let end = memchr::memchr(b'\n', buffer);
            let part = &buffer[..end.unwrap_or(buffer.len())];
            let consumed = part.len() + usize::from(end.is_some());
            match end {
                Some(_) if partial.is_empty() => self.line(name, number, part)?,
                _ => {
                    // One byte above the maximum is enough to detect that the line is too long.
                    let remaining = (MAX_RECORD + 1).saturating_sub(partial.len());
                    partial.extend_from_slice(&part[..part.len().min(remaining)]);
                    if end.is_some() {
                        self.line(name, number, &partial)?;
                        partial.clear();
                    }
                }
            }
            number += u64::from(end.is_some());
            input.consume(consumed);
            self.advance(consumed);
        }
    }

    fn line(&mut self, name: &str, number: u64, line: &[u8]) -> anyhow::Result<()> {
        let record = line.trim_ascii();
        if record.is_empty() {
            return Ok(());
        }
        self.stats.lines += 1;
        if line.len() > MAX_RECORD {
            return self.malformed(
                name,
                number,
                &format!("found more than {} MiB, expected a shorter line", MAX_RECORD >> 20),
            );
        }
        self.record(name, number, record)
    }

    fn record(&mut self, name: &str, number: u64, record: &[u8]) -> anyhow::Result<()> {
        match (self.ingest)(record) {
            Ok(report) => report.errors.iter().try_for_each(|error| self.malformed(name, number, &error.error)),
            Err(error) => self.malformed(name, number, &error.to_string()),
        }
    }

    /// Updates the progress bar once per MiB, since it reads the clock at every update.
    fn advance(&mut self, bytes: usize) {
        self.unreported += bytes as u64;
        if self.unreported >= 1 << 20 {
            self.progress.inc(std::mem::take(&mut self.unreported));
        }
    }

    fn body(&mut self, name: &str, input: impl BufRead) -> anyhow::Result<()> {
        let mut body = Vec::new();
        input.take(MAX_RECORD as u64 + 1).read_to_end(&mut body).with_context(|| format!("cannot read {name}"))?;
        self.stats.lines += 1;
        if body.len() > MAX_RECORD {
            return self.malformed(
                name,
                1,
                &format!("found more than {} MiB, expected a smaller body", MAX_RECORD >> 20),
            );
        }
        self.record(name, 1, &body)
    }

    fn malformed(&mut self, name: &str, number: u64, message: &str) -> anyhow::Result<()> {
        if self.strict {
            self.progress.finish_and_clear();
            bail!("{name}:{number}: {message}");
        }
        self.stats.skipped += 1;
        if self.stats.skipped <= MAX_REPORTED {
            self.progress.suspend(|| errln!("{name}:{number}: skipped: {message}"));
        }
        Ok(())
    }
}
