//! What a long-lived native process asks of the operating system: few memory arenas, enough file
//! descriptors, a word when it is told to stop.

use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::failure::Failure;

/// Keeps glibc to one heap arena for each worker of ours.
///
/// By default each thread that allocates grows an arena of its own, up to eight a core, and what
/// is freed there stays resident. Call it before any thread is started.
pub fn keep_memory_small() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The node's task and its links run on two workers.
        const ARENAS: libc::c_int = 2;
        /// Freed memory at the heap's top above this goes back to the system.
        const TRIM_BYTES: libc::c_int = 256 * 1024;
        /// Larger blocks are mapped on their own, so that they are given back when freed.
        const MMAP_BYTES: libc::c_int = 512 * 1024;
        // SAFETY: mallopt takes two integers by value and touches only the allocator's own
        // parameters; the caller has started no thread yet.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, ARENAS);
            libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_BYTES);
            libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_BYTES);
        }
    }
}

/// Lifts this process's limit on open files to the most that it may have, and says what it is.
///
/// A shell's usual 1,024 are fewer than the links that one bridge carries.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit writes one rlimit, which is what it is given.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: setrlimit reads one rlimit, which is what it is given.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Tells all that wait for it to stop taking work.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// From now on every [`Stop`] of this is ready. Dropping the stopper does the same.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Becomes ready when its [`Stopper`] says so.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// A pair of both.
    pub fn pair() -> (Stopper, Stop) {
        let (stopper, stop) = watch::channel(false);
        (Stopper(stopper), Stop(stop))
    }

    /// Waits for it.
    pub async fn wait(&mut self) {
        // An error says that the stopper is gone, which means the same.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}

/// SIGINT and SIGTERM.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on the signals end nothing by themselves.
    pub fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::new(format!("cannot listen for signals: {error}")))
        };
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The next of them, by name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// The runtime of a native program: the node's task is one of many, and links' encryption runs
/// beside it, so a second worker pays; a third would only wait.
pub fn runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))
}

/// Bytes of this process that are resident now, where the system says so (Linux).
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
