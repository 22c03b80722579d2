//! The threads that passages run in. One that is done waits a moment for the next passage: in a busy hour there are
//! hundreds a second, and to make a thread and its stack anew costs more than a small picture's bytes.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How long a thread without work stays.
const STAYS: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce() + Send>;

/// The threads of one door. They end with it.
#[derive(Default)]
pub struct Crew {
    rest: Arc<Rest>,
}

#[derive(Default)]
struct Rest {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    is_closed: bool,
}

impl Crew {
    /// Runs `job` at once, in a thread of its own for as long as it takes.
    pub fn run(&self, name: &str, stack_bytes: usize, job: Job) -> io::Result<()> {
        let mut state = self.rest.lock();
        if state.idle > state.jobs.len() {
            state.jobs.push_back(job);
            self.rest.changed.notify_one();
            return Ok(());
        }
        drop(state);
        let rest = self.rest.clone();
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(stack_bytes);
        thread.spawn(move || {
            job();
            while let Some(job) = rest.next() {
                job();
            }
        })?;
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.rest.lock().is_closed = true;
        self.rest.changed.notify_all();
    }
}

impl Rest {
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        state.idle += 1;
        let nothing = |state: &mut State| state.jobs.is_empty() && !state.is_closed;
        let waited = self.changed.wait_timeout_while(state, STAYS, nothing);
        let mut state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        state.idle -= 1;
        state.jobs.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::ThreadId;

    fn thread_of_next(crew: &Crew) -> ThreadId {
        let (told, tells) = channel();
        let job = Box::new(move || told.send(thread::current().id()).unwrap());
        crew.run("test", 64 * 1024, job).unwrap();
        tells.recv().unwrap()
    }

    fn wait_for_idle(crew: &Crew) {
        while crew.rest.lock().idle == 0 {
            thread::yield_now();
        }
    }

    fn held(crew: &Crew) -> (std::sync::mpsc::Sender<()>, Receiver<ThreadId>) {
        let (release, held) = channel::<()>();
        let (told, tells) = channel();
        let job = Box::new(move || {
            told.send(thread::current().id()).unwrap();
            let _ = held.recv();
        });
        crew.run("test", 64 * 1024, job).unwrap();
        (release, tells)
    }

    #[test]
    fn a_job_never_waits_and_a_thread_takes_another() {
        let crew = Crew::default();
        let first = thread_of_next(&crew);
        wait_for_idle(&crew);
        let (release, tells) = held(&crew);
        assert_eq!(tells.recv().unwrap(), first);
        // The only one is busy.
        assert_ne!(thread_of_next(&crew), first);
        drop(release);
    }

    #[test]
    fn the_crew_ends_with_its_door() {
        let crew = Crew::default();
        thread_of_next(&crew);
        wait_for_idle(&crew);
        let rest = Arc::downgrade(&crew.rest);
        drop(crew);
        while rest.strong_count() > 0 {
            thread::yield_now();
        }
    }
}
