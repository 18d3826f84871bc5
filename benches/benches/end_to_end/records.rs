//! What is sent: records that are generated, or the lines of a file.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use benches::workload::{Generator, Spec};

pub(crate) enum Records {
    Generated(Box<Generator>),
    /// So many lines of it are still to come.
    Lines(BufReader<File>, u64),
}

impl Records {
    pub(crate) fn generated(spec: Spec) -> Records {
        Records::Generated(Box::new(Generator::new(spec)))
    }

    /// The first `lines_max` lines of the file at `path`.
    pub(crate) fn of_file(path: &Path, lines_max: u64) -> Result<Records> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Records::Lines(BufReader::new(file), lines_max))
    }

    /// The next records, `batch` of them or what is left, one a line.
    pub(crate) fn body(&mut self, batch: u64) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        for _ in 0..batch {
            match self {
                Records::Generated(generator) => _ = generator.write_record(&mut body),
                Records::Lines(_, 0) => break,
                Records::Lines(file, left) => {
                    ensure!(
                        file.read_until(b'\n', &mut body)? > 0,
                        "the file has {left} records less than are to be sent"
                    );
                    *left -= 1;
                }
            }
        }
        Ok(body)
    }
}
