//! Why a native program does not start, in a sentence for whoever started it.

use std::process::ExitCode;

/// The status with which a program ends that could not start: wrong options, files or ports.
pub const CANNOT_START: u8 = 2;

/// A sentence for the operator. The program says it and ends with [`CANNOT_START`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// With this sentence.
    pub fn new(sentence: impl Into<String>) -> Self {
        Failure(sentence.into())
    }

    /// Says it on stderr as `program`, and gives the status to end with.
    pub fn report(&self, program: &str) -> ExitCode {
        eprintln!("{program}: {self}");
        ExitCode::from(CANNOT_START)
    }
}
