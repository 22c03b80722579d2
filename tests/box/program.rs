//! The real binary as a child process: started on a free port with settings from the environment, its log read
//! line by line, asked over plain sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tubox::ground::clock::SystemClock;
use tubox::ground::random::OsRandom;
use tubox::simulator::{Simulator, SimulatorOptions};

/// How long anything that must happen may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The origin that phones see in these tests; nothing listens there.
pub const PUBLIC_URL: &str = "https://pics.example.org";

/// The binary with nothing of this process's environment but where to find programs.
pub fn tubox() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tubox"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
pub fn run(args: &[&str], environment: &[(&str, &str)]) -> Output {
    tubox().args(args).envs(environment.iter().copied()).output().unwrap()
}

/// A simulator of its own for a test.
pub fn simulator() -> Simulator {
    Simulator::start(SimulatorOptions::loopback(SystemClock::shared(), OsRandom::shared())).unwrap()
}

/// A running box.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    log: Arc<Log>,
    pub folder: TempDir,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Program {
    /// Starts `tubox serve` against `simulator`.
    pub fn serve(simulator: &Simulator, extra: &[(&str, &str)]) -> Program {
        Program::serve_in(tempfile::tempdir().unwrap(), simulator, extra)
    }

    /// As [`Program::serve`], with at most `open_files` descriptors.
    pub fn serve_with_open_files(open_files: u32, simulator: &Simulator) -> Program {
        let mut shell = Command::new("/bin/sh");
        shell.env_clear().stdin(Stdio::null());
        shell.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &open_files.to_string()]);
        shell.arg(env!("CARGO_BIN_EXE_tubox"));
        Program::start(shell, tempfile::tempdir().unwrap(), simulator, &[])
    }

    /// As [`Program::serve`], on a folder of an earlier box.
    pub fn serve_in(folder: TempDir, simulator: &Simulator, extra: &[(&str, &str)]) -> Program {
        Program::start(tubox(), folder, simulator, extra)
    }

    fn start(
        mut command: Command,
        folder: TempDir,
        simulator: &Simulator,
        extra: &[(&str, &str)],
    ) -> Program {
        let data_dir = folder.path().join("data");
        let verify_dir = folder.path().join("verify");
        std::fs::create_dir_all(&verify_dir).unwrap();
        let options = SimulatorOptions::loopback(SystemClock::shared(), OsRandom::shared());
        command
            .args(["serve", "--config", "/dev/null"])
            .env("TUBOX_LISTEN", "127.0.0.1:0")
            .env("TUBOX_PUBLIC_URL", PUBLIC_URL)
            .env("TUBOX_DATA_DIR", &data_dir)
            .env("TUBOX_WECHAT_APP_ID", options.app_id)
            .env("TUBOX_WECHAT_APP_SECRET", options.app_secret)
            .env("TUBOX_WECHAT_API_URLS", simulator.base_url())
            .env("TUBOX_WECHAT_VERIFY_DIR", &verify_dir)
            .env("TUBOX_DRAIN_RETRY_MIN", "50ms")
            .env("TUBOX_LIMITS_MIN_FREE_BYTES", "1048576")
            .envs(extra.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Log::default());
        read_lines(child.stderr.take().unwrap(), log.clone());
        let line = log.wait_for("listening on ");
        let address = line.split("listening on ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        Program { child, address, log, folder }
    }

    /// Waits for a log line that holds `text`.
    pub fn wait_for_log(&self, text: &str) -> String {
        self.log.wait_for(text)
    }

    /// Everything that was logged so far.
    pub fn log_text(&self) -> String {
        self.log.lines.lock().unwrap().join("\n")
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn pictures_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("data/pictures")
    }

    /// The most memory that it has had so far.
    pub fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the box does not end; its log:\n{}", self.log_text());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Stops in order; the folder can go to another box.
    pub fn stop(mut self) -> TempDir {
        self.signal("TERM");
        assert_eq!(self.wait().code(), Some(0));
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    pub fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, &[], b"")
    }

    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        ask(self.address, method, target, headers, body)
    }

    /// The page's cookie, as a browser would send it back.
    pub fn cookie(&self) -> String {
        let page = self.get("/uploadImgDemo");
        page.header("Set-Cookie").expect("the page sets a cookie").split(';').next().unwrap().to_owned()
    }

    /// Submits ids in the seed's format.
    pub fn submit(&self, cookie: &str, ids: &[&str]) -> Reply {
        let body = format!("data={}", serde_json::json!({"imgIds": ids}));
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        self.ask("POST", "/uploadImgData", &[("Cookie", cookie), form], body.as_bytes())
    }

    /// Asks for a receipt until it is settled.
    pub fn settled(&self, receipt: &str) -> serde_json::Value {
        let started = Instant::now();
        loop {
            let view = self.get(&format!("/receipt/{receipt}")).json();
            if view["settled"] == true {
                return view;
            }
            assert!(started.elapsed() < PATIENCE, "not settled: {view}\n{}", self.log_text());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn wait_for(&self, text: &str) -> String {
        let mut lines = self.lines.lock().unwrap();
        let started = Instant::now();
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            assert!(started.elapsed() < PATIENCE, "no line with {text:?} in:\n{}", lines.join("\n"));
            lines = self.grown.wait_timeout(lines, Duration::from_millis(200)).unwrap().0;
        }
    }
}

fn read_lines(stream: impl Read + Send + 'static, log: Arc<Log>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            log.lines.lock().unwrap().push(line);
            log.grown.notify_all();
        }
    });
}

/// One request over a connection of its own.
pub fn ask(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    if method == "POST" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    // A refused body may end the connection before all of it is sent.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let split = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer with a head");
    let head = String::from_utf8_lossy(&answer[..split]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head, body: answer[split + 4..].to_vec() }
}

/// Runs `sha256sum -c` in every day folder; how many pictures passed.
pub fn sha256sum_check(pictures: &Path) -> usize {
    let mut passed = 0;
    let entries = std::fs::read_dir(pictures).unwrap().map(|entry| entry.unwrap().path());
    for day in entries.filter(|path| path.is_dir()) {
        let output = Command::new("sha256sum")
            .args(["-c", "--strict", "SHA256SUMS"])
            .current_dir(day)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        passed +=
            String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.ends_with(": OK")).count();
    }
    passed
}
