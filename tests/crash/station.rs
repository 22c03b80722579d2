//! A box under test: the real binary, the simulator it talks to, the clients that submit, and the ledger of what
//! was acknowledged to them.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;
use tubox::ground::clock::{Deadline, SystemClock};
use tubox::ground::random::{SeededRandom, SharedRandom};
use tubox::ground::stop::Stop;
use tubox::simulator::{Simulator, SimulatorOptions};

/// Generous: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Where a box keeps its things.
#[derive(Clone, Debug)]
pub struct Places {
    pub data: PathBuf,
    pub pictures: PathBuf,
}

impl Places {
    pub fn below(root: &Path) -> Places {
        Places { data: root.join("data"), pictures: root.join("pictures") }
    }
}

/// The simulator and a supply of pictures.
pub struct Station {
    pub simulator: Simulator,
    pub random: SharedRandom,
}

impl Station {
    pub fn new(seed: u64) -> Station {
        let random = SeededRandom::shared(seed);
        let options = SimulatorOptions::loopback(SystemClock::shared(), random.clone());
        Station { simulator: Simulator::start(options).unwrap(), random }
    }

    /// Leaves a picture of a random length with the simulator; its id.
    pub fn upload(&self, length_max: usize) -> String {
        let picture = jpeg(&self.random, length_max);
        self.simulator.upload(picture, "image/jpeg")
    }

    /// As [`Station::upload`], of this length.
    pub fn upload_of(&self, length: usize) -> String {
        let mut picture = jpeg(&self.random, 1);
        picture.resize(length, 0);
        self.simulator.upload(picture, "image/jpeg")
    }

    pub fn uploads(&self, count: usize, length_max: usize) -> Vec<String> {
        (0..count).map(|_| self.upload(length_max)).collect()
    }

    pub fn start(&self, places: &Places) -> Result<BoxProcess, Ended> {
        self.start_with(places, &[])
    }

    pub fn start_with(&self, places: &Places, settings: &[(&str, &str)]) -> Result<BoxProcess, Ended> {
        BoxProcess::start(&self.command(places, settings))
    }

    /// The command line of a box: program and environment.
    pub fn command(&self, places: &Places, settings: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut environment: Vec<(String, String)> = [
            ("LISTEN", "127.0.0.1:0"),
            ("PUBLIC_URL", "http://127.0.0.1"),
            ("DATA_DIR", &places.data.display().to_string()),
            ("PICTURES_DIR", &places.pictures.display().to_string()),
            ("WECHAT_APP_ID", "wx0123456789abcdef"),
            ("WECHAT_APP_SECRET", "5ec2e70f5ec2e70f5ec2e70f5ec2e70f"),
            ("WECHAT_API_URLS", &self.simulator.base_url()),
            ("DRAIN_RETRY_MIN", "10ms"),
            ("DRAIN_RETRY_MAX", "200ms"),
            ("LIMITS_OPEN_SUBMIT", "true"),
            ("LIMITS_RATE", "0"),
            ("LIMITS_MIN_FREE_BYTES", "0"),
        ]
        .map(|(key, value)| (format!("TUBOX_{key}"), value.to_owned()))
        .into();
        environment.extend(settings.iter().map(|(key, value)| (format!("TUBOX_{key}"), (*value).to_owned())));
        environment
    }
}

/// A whole JPEG, as far as the box looks, of random bytes.
pub fn jpeg(random: &SharedRandom, length_max: usize) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xe0, 0, 16];
    bytes.extend(b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    bytes.extend([0xff, 0xda, 0, 2]);
    let mut noise = vec![0; 16 + random.u64() as usize % length_max];
    random.fill(&mut noise);
    bytes.extend(noise.into_iter().map(|byte| byte & 0x7f));
    bytes.extend([0xff, 0xd9]);
    bytes
}

/// A box that ended instead of starting.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub log: String,
}

/// A running box. Dropping it kills it.
pub struct BoxProcess {
    child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl BoxProcess {
    pub fn start(environment: &[(String, String)]) -> Result<BoxProcess, Ended> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tubox"));
        command.args(["serve", "--config", "/dev/null"]);
        BoxProcess::spawn(command, environment)
    }

    /// A box for which `call` reports success and does nothing.
    pub fn start_without(call: &str, environment: &[(String, String)]) -> Result<BoxProcess, Ended> {
        let mut command = Command::new("strace");
        let inject = format!("inject={call}:retval=0");
        command.args([
            "-D",
            "-f",
            "--seccomp-bpf",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={call}"),
            "-e",
            &inject,
        ]);
        command.args([env!("CARGO_BIN_EXE_tubox"), "serve", "--config", "/dev/null"]);
        BoxProcess::spawn(command, environment)
    }

    /// Runs `command` until it says where it listens.
    pub fn spawn(mut command: Command, environment: &[(String, String)]) -> Result<BoxProcess, Ended> {
        command.envs(environment.iter().map(|(key, value)| (key, value)));
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (reader, address) = read_log(child.stderr.take().unwrap(), log.clone());
        match address.recv_timeout(PATIENCE) {
            Ok(address) => Ok(BoxProcess { child, address, log, reader: Some(reader) }),
            Err(_) => {
                let _ = child.kill();
                let status = child.wait().unwrap();
                let _ = reader.join();
                let log = log.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
                Err(Ended { status, log })
            }
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// kill -9.
    pub fn kill(mut self) -> String {
        self.end();
        self.log()
    }

    /// SIGTERM, and waits for the orderly end.
    pub fn terminate(mut self) -> (ExitStatus, String) {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = rustix::process::kill_process(id.unwrap(), rustix::process::Signal::TERM);
        let deadline = Deadline::after(PATIENCE);
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if deadline.passed() => panic!("the box does not stop\n{}", self.log()),
                None => drop(Stop::new().wait(POLL)),
            }
        };
        self.end();
        (status, self.log())
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }

    /// Submits `ids`: status and answer.
    pub fn submit(&self, ids: &[String]) -> io::Result<(u16, Value)> {
        submit(self.address, ids)
    }

    pub fn get(&self, path: &str) -> io::Result<(u16, Value)> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: box\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
        );
        exchange(self.address, &request)
    }

    /// Waits until all pictures of `receipts` are saved or failed; the answers, or what is still owed.
    pub fn await_settled(&self, receipts: &[String], limit: Duration) -> Result<Vec<Value>, String> {
        let deadline = Deadline::after(limit);
        let mut views = Vec::new();
        for receipt in receipts {
            loop {
                let last = match self.get(&format!("/receipt/{receipt}")) {
                    Ok((200, view)) if view["settled"] == true => {
                        views.push(view);
                        break;
                    }
                    other => format!("{other:?}"),
                };
                if deadline.passed() {
                    return Err(format!("receipt {receipt} does not settle: {last}"));
                }
                Stop::new().wait(POLL);
            }
        }
        Ok(views)
    }
}

impl Drop for BoxProcess {
    fn drop(&mut self) {
        self.end();
    }
}

fn read_log(
    stderr: impl Read + Send + 'static,
    log: Arc<Mutex<String>>,
) -> (JoinHandle<()>, Receiver<SocketAddr>) {
    let (sender, receiver) = channel();
    let read = move || {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            let listens = line.split_once("listening on ").and_then(|(_, rest)| rest.split(' ').next());
            if let Some(Ok(address)) = listens.map(str::parse) {
                let _ = sender.send(address);
            }
            let mut log = log.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            log.push_str(&line);
            log.push('\n');
        }
    };
    (std::thread::spawn(read), receiver)
}

/// Submits `ids` as a script would: status and answer. The note makes rows of all lengths, so that some of them lie
/// across the blocks of a file.
pub fn submit(address: SocketAddr, ids: &[String]) -> io::Result<(u16, Value)> {
    let note = "图片".repeat(ids.iter().flat_map(|id| id.bytes()).map(usize::from).sum::<usize>() % 200);
    let body = json!({ "imgIds": ids, "note": note }).to_string();
    let head =
        "POST /uploadImgData HTTP/1.1\r\nHost: box\r\nAccept-Language: en\r\nContent-Type: application/json";
    exchange(address, &format!("{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()))
}

fn exchange(address: SocketAddr, request: &str) -> io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, serde_json::from_str(body).map_err(|_| io::ErrorKind::InvalidData)?))
}

/// What was acknowledged: receipts with their ids, in the order of the answers.
#[derive(Default)]
pub struct Ledger {
    acknowledged: Mutex<Vec<(String, Vec<String>)>>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Vec<(String, Vec<String>)>> {
        self.acknowledged.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn receipts(&self) -> Vec<String> {
        self.lock().iter().map(|(receipt, _)| receipt.clone()).collect()
    }

    pub fn ids(&self) -> Vec<String> {
        self.lock().iter().flat_map(|(_, ids)| ids.clone()).collect()
    }

    /// Submits and writes down what is acknowledged. An error means that the box is gone.
    pub fn submit(&self, address: SocketAddr, ids: &[String]) -> io::Result<bool> {
        let (status, answer) = submit(address, ids)?;
        let is_taken = status == 200 && answer["rc"] == 0;
        if is_taken {
            let receipt = answer["receipt"].as_str().unwrap_or_default().to_owned();
            self.lock().push((receipt, ids.to_vec()));
        }
        Ok(is_taken)
    }

    /// Submits all `ids`, `per_submission` at a time, from `clients` threads, until they are through or the box is
    /// gone.
    pub fn submit_all(&self, address: SocketAddr, ids: &[String], per_submission: usize, clients: usize) {
        let left = Mutex::new(ids.chunks(per_submission));
        let next = || left.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
        std::thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    while let Some(ids) = next() {
                        if self.submit(address, ids).is_err() {
                            break;
                        }
                    }
                });
            }
        });
    }
}
