//! Child processes that never outlive us, and what they said.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

/// Lines kept of each process. A process fills it by its own words; the oldest go.
const MAX_LOG_LINES: usize = 4000;
/// How long a process may take to end when asked.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A child process. It is killed when this is dropped, and by the kernel when we die.
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Log>,
}

/// What a process said, on both its outputs.
struct Log {
    name: String,
    lines: Mutex<Lines>,
    /// Told at each line, closed at the end of both outputs.
    changed: watch::Sender<()>,
    echo: bool,
}

#[derive(Default)]
struct Lines {
    kept: VecDeque<String>,
    /// How many went before those.
    gone: usize,
}

impl Process {
    /// Starts a program. Its words are kept; `CHIVE_TEST_LOGS=1` prints them as they come.
    pub fn start<S: AsRef<OsStr>>(
        name: &str,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Process> {
        let mut command = Command::new(program);
        command.args(arguments);
        Process::spawn(name, command)
    }

    /// Starts a command.
    pub fn spawn(name: &str, mut command: Command) -> Result<Process> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.kill_on_drop(true);
        // A group of its own: Ctrl-C is for us, who end our children in order.
        command.process_group(0);
        #[cfg(target_os = "linux")]
        // SAFETY: between fork and exec only one system call is made, and no memory is touched.
        unsafe {
            command.pre_exec(|| {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                    .map_err(Into::into)
            });
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let log = Arc::new(Log {
            name: name.to_owned(),
            lines: Mutex::default(),
            changed: watch::Sender::new(()),
            echo: std::env::var_os("CHIVE_TEST_LOGS").is_some(),
        });
        if let Some(output) = child.stdout.take() {
            tokio::spawn(listen(output, log.clone()));
        }
        if let Some(output) = child.stderr.take() {
            tokio::spawn(listen(output, log.clone()));
        }
        Ok(Process {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// The name that we gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process's id while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The first line, past or to come, of which `find` makes something.
    pub async fn line<T>(
        &mut self,
        what: &str,
        limit: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let mut changed = self.log.changed.subscribe();
        let mut seen = 0;
        let search = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = self.log.find(&mut seen, &find) {
                    return Ok(found);
                }
                tokio::select! {
                    told = changed.changed() => told.map_err(|_| anyhow!("its outputs are closed"))?,
                    status = self.child.wait() => {
                        // Its last words may still be on their way to us.
                        let _ = timeout(Duration::from_secs(1), self.log.changed.closed()).await;
                        let found = self.log.find(&mut seen, &find);
                        return found.with_context(|| format!("it ended ({})", shown(status)));
                    }
                }
            }
        };
        let outcome = timeout(limit, search).await;
        let why = match outcome {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(why)) => why,
            Err(_) => anyhow!("{} seconds went by", limit.as_secs()),
        };
        bail!(
            "{} did not say {what}: {why:#}; it said:\n{}",
            self.name,
            self.log()
        );
    }

    /// What the process said so far, as much as is kept.
    pub fn log(&self) -> String {
        let lines = self.log.lines();
        lines
            .kept
            .iter()
            .map(|line| format!("  {}: {line}\n", self.name))
            .collect()
    }

    /// Asks the process to end, waits until it has, and kills it if it does not.
    pub async fn end(mut self) -> Result<ExitStatus> {
        if let Some(pid) = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
        {
            // It may have ended by itself meanwhile.
            let _ = kill_process(pid, Signal::TERM);
        }
        match timeout(END_TIMEOUT, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                self.child.kill().await?;
                bail!("{} had to be killed; it said:\n{}", self.name, self.log());
            }
        }
    }

    /// Kills the process, as a power cut would, and waits until it is gone.
    pub async fn kill(mut self) -> Result<()> {
        self.child
            .kill()
            .await
            .with_context(|| format!("killing {}", self.name))
    }

    /// Waits until the process ends by itself.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }
}

impl Log {
    fn lines(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks through the lines from the `seen`th on.
    fn find<T>(&self, seen: &mut usize, find: &impl Fn(&str) -> Option<T>) -> Option<T> {
        let lines = self.lines();
        let found = lines
            .kept
            .iter()
            .skip(seen.saturating_sub(lines.gone))
            .find_map(|line| find(line));
        *seen = lines.gone + lines.kept.len();
        found
    }

    fn push(&self, line: String) {
        if self.echo {
            eprintln!("  {}: {line}", self.name);
        }
        let mut lines = self.lines();
        if lines.kept.len() == MAX_LOG_LINES {
            lines.kept.pop_front();
            lines.gone += 1;
        }
        lines.kept.push_back(line);
        drop(lines);
        self.changed.send_replace(());
    }
}

async fn listen(output: impl AsyncRead + Unpin, log: Arc<Log>) {
    let mut lines = BufReader::new(output).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        log.push(String::from_utf8_lossy(&line).trim_end().to_owned());
    }
}

fn shown(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// One of our own binaries, built beside us.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // A test lies in `deps` below the folder in which the binaries are.
    let mut folders = own.ancestors().skip(1).take(2);
    folders
        .find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()))
        .with_context(|| format!("{name} is not built: run `cargo xtask test`, which builds it"))
}

/// Where a program lies, if it is installed.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(daemons)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests;
