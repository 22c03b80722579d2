//! The real binary as a child: `tubox serve` with the settings of a test, its log read line by line as it comes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// For what must succeed, also on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `tubox serve`. Dropping it kills it.
pub struct Running {
    child: Child,
    log: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    /// Starts the box in an environment of nothing but `environment`.
    pub fn serve(config: &Path, environment: &[(&str, String)]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tubox"));
        command.arg("serve").arg("--config").arg(config).env_clear();
        command.envs(environment.iter().map(|(key, value)| (key, value)));
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (said, log) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send(line)));
        Running { child, log, seen: Vec::new() }
    }

    /// The next log line that holds `text`; lines before it are only kept for the message of a failure.
    pub fn logged(&mut self, text: &str) -> String {
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(why) => panic!("no line with {text:?} ({why}); the log so far: {:#?}", self.seen),
            }
            let line = &self.seen[self.seen.len() - 1];
            if line.contains(text) {
                return line.clone();
            }
        }
    }

    /// Where it listens, as it says itself.
    pub fn address(&mut self) -> String {
        let line = self.logged("listening on ");
        line.split("listening on ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned()
    }

    /// SIGTERM, as systemd sends it.
    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// How it ended, and everything that it logged; `None` when it is still there after `within`.
    pub fn ended(mut self, within: Duration) -> Option<(ExitStatus, Vec<String>)> {
        // The log ends when the process does: nobody else holds its other end.
        let (mut seen, deadline) =
            (std::mem::take(&mut self.seen), tubox::ground::clock::Deadline::after(within));
        while let Some(left) = deadline.remaining() {
            match self.log.recv_timeout(left) {
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return Some((self.child.wait().unwrap(), seen)),
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
