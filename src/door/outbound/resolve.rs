//! Names to addresses, with a time limit that the C library does not have. A look-up runs in a thread of its own;
//! who waits for it may give up, the look-up goes on. So that a hung name server does not fill the machine with
//! threads, there is at most one look-up a name (later askers wait for the same one) and a bound over all.

use super::fault::ResolveFault;
use super::wire;
use crate::ground::clock::Deadline;
use crate::ground::escape;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// Look-ups that may run at the same time, all names together.
const LOOKUPS_MAX: usize = 16;
/// glibc's resolver loads modules and keeps answers on the stack.
const LOOKUP_STACK_BYTES: usize = 512 * 1024;
/// How often a waiter looks whether its requester is still there.
const LOOK_AROUND: Duration = Duration::from_millis(50);

/// Who turns names into addresses.
pub trait Resolver: Send + Sync {
    /// The addresses of `name`, best first. May block; `ErrorKind::NotFound` means that the name does not exist.
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The operating system's resolver.
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    }
}

/// How a look-up failed for one who waited.
#[derive(Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// The requester left.
    NearGone,
    /// No addresses.
    Fault(ResolveFault),
}

/// The look-ups of one door.
pub struct Lookups {
    resolver: Arc<dyn Resolver>,
    running: Arc<Mutex<HashMap<String, Arc<Lookup>>>>,
}

type Outcome = Result<Vec<IpAddr>, ResolveFault>;

#[derive(Default)]
struct Lookup {
    outcome: Mutex<Option<Outcome>>,
    done: Condvar,
}

impl Lookups {
    /// Look-ups by `resolver`.
    pub fn new(resolver: Arc<dyn Resolver>) -> Lookups {
        Lookups { resolver, running: Arc::default() }
    }

    /// The addresses of `name`; waits until `deadline` at most, and only while the near side is there.
    pub fn addresses(
        &self,
        name: &str,
        deadline: Deadline,
        near: &TcpStream,
    ) -> Result<Vec<IpAddr>, Unresolved> {
        let lookup = self.join_or_start(name).map_err(Unresolved::Fault)?;
        loop {
            let left = deadline.remaining().ok_or(Unresolved::Fault(ResolveFault::TimeLimit))?;
            if let Some(outcome) = lookup.wait(left.min(LOOK_AROUND)) {
                return outcome.map_err(Unresolved::Fault);
            }
            if wire::is_gone(near) {
                return Err(Unresolved::NearGone);
            }
        }
    }

    fn join_or_start(&self, name: &str) -> Result<Arc<Lookup>, ResolveFault> {
        let mut running = lock(&self.running);
        if let Some(lookup) = running.get(name) {
            return Ok(lookup.clone());
        }
        if running.len() >= LOOKUPS_MAX {
            return Err(ResolveFault::TooMany);
        }
        let lookup = Arc::new(Lookup::default());
        running.insert(name.to_owned(), lookup.clone());
        drop(running); // before the ending exists, which takes the lock when it goes
        let ending = Ending { name: name.to_owned(), lookup: lookup.clone(), running: self.running.clone() };
        let resolver = self.resolver.clone();
        thread::Builder::new()
            .name("lookup".into())
            .stack_size(LOOKUP_STACK_BYTES)
            .spawn(move || ending.with(judge(resolver.resolve(&ending.name))))
            .map_err(|error| ResolveFault::Other(format!("no thread for the look-up: {error}")))?;
        Ok(lookup)
    }
}

impl Lookup {
    fn wait(&self, limit: Duration) -> Option<Outcome> {
        let (outcome, _) = self
            .done
            .wait_timeout_while(lock(&self.outcome), limit, |outcome| outcome.is_none())
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        outcome.clone()
    }
}

/// Tells the waiters and makes room for the next look-up, also when the resolver panics.
struct Ending {
    name: String,
    lookup: Arc<Lookup>,
    running: Arc<Mutex<HashMap<String, Arc<Lookup>>>>,
}

impl Ending {
    fn with(&self, outcome: Outcome) {
        *lock(&self.lookup.outcome) = Some(outcome);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        lock(&self.running).remove(&self.name);
        lock(&self.lookup.outcome)
            .get_or_insert_with(|| Err(ResolveFault::Other("the resolver broke".into())));
        self.lookup.done.notify_all();
    }
}

fn judge(found: io::Result<Vec<IpAddr>>) -> Outcome {
    match found {
        Ok(addresses) if addresses.is_empty() => Err(ResolveFault::NoSuchName),
        Ok(addresses) => Ok(addresses),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(ResolveFault::NoSuchName),
        Err(error) => Err(name_the_fault(&error.to_string())),
    }
}

/// std hands on the C library's sentence only, without its number. These are the sentences of glibc and musl.
fn name_the_fault(sentence: &str) -> ResolveFault {
    const NO_SUCH_NAME: [&str; 4] = [
        "Name or service not known",
        "No address associated",
        "Name does not resolve",
        "Name has no usable address",
    ];
    const NO_NAME_SERVER: [&str; 2] = ["Temporary failure in name resolution", "Try again"];
    let says = |any: &[&str]| any.iter().any(|part| sentence.contains(part));
    if says(&NO_SUCH_NAME) {
        ResolveFault::NoSuchName
    } else if says(&NO_NAME_SERVER) {
        ResolveFault::NoNameServer
    } else {
        ResolveFault::Other(escape::for_log(sentence, 200))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::stop::Stop;
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Gate {
        open: Stop,
        calls: AtomicUsize,
    }

    impl Resolver for Gate {
        fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            self.open.wait_for_ever();
            match name {
                "panics" => panic!("on purpose"),
                "missing" => Err(ErrorKind::NotFound.into()),
                _ => Ok(vec![[127, 0, 0, 1].into()]),
            }
        }
    }

    fn near() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let requester = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (requester, listener.accept().unwrap().0)
    }

    fn gate() -> (Arc<Gate>, Lookups) {
        let gate = Arc::new(Gate { open: Stop::new(), calls: AtomicUsize::new(0) });
        (gate.clone(), Lookups::new(gate))
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(20))
    }

    fn late() -> Deadline {
        Deadline::after(Duration::from_secs(30))
    }

    #[test]
    fn a_hung_lookup_is_joined_and_not_repeated() {
        let (gate, lookups) = gate();
        let (_requester, near) = near();
        for _ in 0..5 {
            let lost = lookups.addresses("a.example", soon(), &near).unwrap_err();
            assert_eq!(lost, Unresolved::Fault(ResolveFault::TimeLimit));
        }
        assert_eq!(gate.calls.load(Ordering::SeqCst), 1);
        gate.open.ask();
        assert_eq!(lookups.addresses("a.example", late(), &near).unwrap(), [IpAddr::from([127, 0, 0, 1])]);
    }

    #[test]
    fn hung_lookups_are_bounded_over_all_names() {
        let (gate, lookups) = gate();
        let (_requester, near) = near();
        for number in 0..LOOKUPS_MAX {
            let name = format!("{number}.example");
            assert_eq!(
                lookups.addresses(&name, soon(), &near),
                Err(Unresolved::Fault(ResolveFault::TimeLimit))
            );
        }
        let lost = lookups.addresses("one-more.example", late(), &near).unwrap_err();
        assert_eq!(lost, Unresolved::Fault(ResolveFault::TooMany));
        gate.open.ask();
        assert!(lookups.addresses("0.example", late(), &near).is_ok());
    }

    #[test]
    fn a_requester_who_leaves_does_not_wait_on() {
        let (gate, lookups) = gate();
        let (requester, near) = near();
        drop(requester);
        assert_eq!(lookups.addresses("a.example", late(), &near), Err(Unresolved::NearGone));
        gate.open.ask();
    }

    #[test]
    fn missing_names_and_broken_resolvers_are_told() {
        let (gate, lookups) = gate();
        gate.open.ask();
        let (_requester, near) = near();
        let fault = |name: &str| lookups.addresses(name, late(), &near).unwrap_err();
        assert_eq!(fault("missing"), Unresolved::Fault(ResolveFault::NoSuchName));
        assert!(matches!(fault("panics"), Unresolved::Fault(ResolveFault::Other(_))));
        let glibc = "failed to lookup address information: Temporary failure in name resolution";
        assert_eq!(name_the_fault(glibc), ResolveFault::NoNameServer);
        let musl = "failed to lookup address information: Name does not resolve";
        assert_eq!(name_the_fault(musl), ResolveFault::NoSuchName);
    }

    #[test]
    fn the_system_knows_this_machine() {
        assert!(SystemResolver.resolve("localhost").unwrap().iter().all(IpAddr::is_loopback));
    }
}
