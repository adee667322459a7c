//! A server that fails on demand, a store in memory, a clock that only waiting moves, and an executor that can be
//! stopped at any point, as a crash would.

#![allow(
    dead_code,
    reason = "each test crate that includes this file uses its own part of it"
)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use lorahub_hub::{
    Body, Cancel, Chunks, Clock, Commit, Downloader, Fetch, FetchError, Hub, HubError, Key, Options, Progress,
    Repository, Request, Response, Sha256, Source, Store, Stored, Wanted,
};
use lorahub_weights::{Append, WeightsError};

/// SplitMix64, for inputs that vary from a seed.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// What the server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Serve,
    /// No answer at all.
    Refuse,
    /// The connection breaks after so many bytes.
    Cut(usize),
    /// The answer ends after so many bytes, as if it were all.
    Short(usize),
    /// Nothing more after so many bytes.
    Stall(usize),
    /// One bit of the answer is flipped.
    Flip(usize),
    /// More bytes than asked for.
    Long,
    /// A status without the file.
    Status(u16),
    /// A status that says how long to wait.
    Wait(u16, &'static str),
    /// Other bytes than asked for, and it says so.
    WrongRange,
    /// A Content-Range that is none.
    NoSense,
    /// A Content-Range with a size that no file has.
    Huge,
    /// The whole file, whatever was asked for.
    Whole,
}

/// What to do with the n-th request.
type Plan = Box<dyn FnMut(usize, &Request) -> Act>;

/// A server of one file.
pub(crate) struct Server {
    pub(crate) file: RefCell<Vec<u8>>,
    pub(crate) etag: RefCell<Option<String>>,
    /// Whether a page is shown Content-Range, Content-Length and ETag.
    pub(crate) shows_headers: Cell<bool>,
    plan: RefCell<Plan>,
    pub(crate) log: RefCell<Vec<Request>>,
    /// Bytes that went out.
    pub(crate) sent: Rc<Cell<u64>>,
}

impl Server {
    pub(crate) fn new(file: Vec<u8>) -> Self {
        Self {
            file: RefCell::new(file),
            etag: RefCell::new(Some("\"one\"".to_owned())),
            shows_headers: Cell::new(true),
            plan: RefCell::new(Box::new(|_, _| Act::Serve)),
            log: RefCell::default(),
            sent: Rc::default(),
        }
    }

    pub(crate) fn plan(self, plan: impl FnMut(usize, &Request) -> Act + 'static) -> Self {
        self.set_plan(plan);
        self
    }

    pub(crate) fn set_plan(&self, plan: impl FnMut(usize, &Request) -> Act + 'static) {
        *self.plan.borrow_mut() = Box::new(plan);
    }

    /// The acts, one a request, and then good service.
    pub(crate) fn acts(self, acts: &'static [Act]) -> Self {
        self.plan(move |n, _| acts.get(n).copied().unwrap_or(Act::Serve))
    }

    pub(crate) fn requests(&self) -> usize {
        self.log.borrow().len()
    }
}

pub(crate) struct Answer {
    bytes: Vec<u8>,
    at: usize,
    end: End,
    sent: Rc<Cell<u64>>,
}

enum End {
    Good,
    Broken,
    Stalled,
}

impl Body for Answer {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, FetchError> {
        const PIECE: usize = 700;
        if self.at < self.bytes.len() {
            // The network takes its time: other requests have their turn, and a crash can come here.
            Yield(false).await;
            let piece = &self.bytes[self.at..(self.at + PIECE).min(self.bytes.len())];
            self.at += piece.len();
            self.sent.set(self.sent.get() + piece.len() as u64);
            return Ok(Some(piece.to_vec()));
        }
        match self.end {
            End::Good => Ok(None),
            End::Broken => Err(FetchError("the connection was reset".to_owned())),
            End::Stalled => std::future::pending().await,
        }
    }
}

impl Fetch for Server {
    type Body = Answer;

    async fn get(&self, request: Request) -> Result<Response<Answer>, FetchError> {
        let number = self.requests();
        let act = (self.plan.borrow_mut())(number, &request);
        self.log.borrow_mut().push(request.clone());
        let file = self.file.borrow();
        let size = file.len() as u64;
        let (mut status, mut range) = match &request.range {
            Some(range) if act == Act::Whole || range.start >= size => {
                (if act == Act::Whole { 200 } else { 416 }, None)
            }
            Some(range) => (206, Some(range.start..range.end.min(size))),
            None => (200, None),
        };
        let mut retry_after = None;
        match act {
            Act::Refuse => return Err(FetchError("no answer".to_owned())),
            Act::Status(other) => status = other,
            Act::Wait(other, seconds) => (status, retry_after) = (other, Some(seconds.to_owned())),
            Act::WrongRange => range = range.map(|Range { start, end }| start + 1..end.max(start + 2)),
            _ => {}
        }
        let mut bytes = match (&range, status) {
            (Some(Range { start, end }), 206) => file[*start as usize..(*end).min(size) as usize].to_vec(),
            (None, 200) => file.clone(),
            _ => b"an error page".to_vec(),
        };
        let content_length = Some(bytes.len() as u64).filter(|_| self.shows_headers.get());
        let mut end = End::Good;
        match act {
            Act::Cut(n) => {
                bytes.truncate(n);
                end = End::Broken;
            }
            Act::Short(n) => bytes.truncate(n),
            Act::Stall(n) => {
                bytes.truncate(n);
                end = End::Stalled;
            }
            Act::Flip(n) if !bytes.is_empty() => {
                let at = n % bytes.len();
                bytes[at] ^= 4;
            }
            Act::Long => bytes.push(7),
            _ => {}
        }
        let content_range = match (&range, status, act) {
            (_, 206, Act::NoSense) => Some("bytes nonsense".to_owned()),
            (Some(Range { start, end }), 206, Act::Huge) => Some(format!("bytes {start}-{}/{}", end - 1, u64::MAX)),
            (Some(Range { start, end }), 206, _) => Some(format!("bytes {start}-{}/{size}", end - 1)),
            (_, 416, _) => Some(format!("bytes */{size}")),
            _ => None,
        };
        Ok(Response {
            status,
            content_length,
            content_range: content_range.filter(|_| self.shows_headers.get()),
            etag: self.etag.borrow().clone().filter(|_| self.shows_headers.get()),
            retry_after,
            body: Answer {
                bytes,
                at: 0,
                end,
                sent: self.sent.clone(),
            },
        })
    }
}

/// Pending once.
struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Time that passes only by waiting.
#[derive(Default)]
pub(crate) struct Waits {
    pub(crate) now: Cell<Duration>,
}

pub(crate) struct Sleep<'c> {
    clock: &'c Waits,
    until: Duration,
    waited: bool,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.waited {
            self.clock.now.set(self.clock.now.get().max(self.until));
            return Poll::Ready(());
        }
        self.waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Clock for Waits {
    fn now(&self) -> Duration {
        self.now.get()
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> {
        Sleep {
            clock: self,
            until: self.now.get() + time,
            waited: false,
        }
    }
}

/// A store in memory.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) files: RefCell<BTreeMap<Sha256, Vec<u8>>>,
    pub(crate) parts: Rc<RefCell<BTreeMap<Key, Vec<u8>>>>,
    pub(crate) journals: RefCell<BTreeMap<Key, Vec<u8>>>,
    pub(crate) records: RefCell<BTreeMap<Key, Vec<u8>>>,
    pub(crate) locks: Rc<RefCell<BTreeSet<Key>>>,
    pub(crate) room: Cell<Option<u64>>,
    /// A byte of a part that the store flips when it is written.
    pub(crate) spoils: Cell<Option<u64>>,
    /// The last bytes written to a part, which a crash may lose.
    last_write: RefCell<Option<(Key, Range<usize>)>>,
}

impl Memory {
    /// What a crash may do: the journal's last line is cut, the last bytes written never arrived.
    pub(crate) fn crash(&self, rng: &mut Rng) {
        for journal in self.journals.borrow_mut().values_mut() {
            if rng.below(2) == 0 {
                let keep = journal.len().saturating_sub(rng.below(60) as usize);
                journal.truncate(keep);
            }
        }
        if let Some((key, range)) = self.last_write.take()
            && rng.below(2) == 0
            && let Some(part) = self.parts.borrow_mut().get_mut(&key)
        {
            part[range].fill(0);
        }
    }
}

pub(crate) struct Held(Key, Rc<RefCell<BTreeSet<Key>>>);

impl Drop for Held {
    fn drop(&mut self) {
        self.1.borrow_mut().remove(&self.0);
    }
}

fn part_of(bytes: &[u8], range: Range<u64>) -> Vec<u8> {
    let end = (range.end as usize).min(bytes.len());
    bytes.get(range.start as usize..end).unwrap_or_default().to_vec()
}

/// Writes a part of a [`Memory`], up to its room.
pub(crate) struct PartWriter {
    key: Key,
    parts: Rc<RefCell<BTreeMap<Key, Vec<u8>>>>,
    room: Option<u64>,
}

impl Append for PartWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        let mut parts = self.parts.borrow_mut();
        let part = parts.entry(self.key).or_default();
        if self.room.is_some_and(|room| ((part.len() + bytes.len()) as u64) > room) {
            let reason = "it is full".to_owned();
            return Err(WeightsError::Write { reason });
        }
        part.extend_from_slice(bytes);
        Ok(())
    }
}

impl Store for Memory {
    type Lock = Held;
    type Writer = PartWriter;

    async fn lock(&self, key: Key) -> Result<Held, HubError> {
        if self.locks.borrow_mut().insert(key) {
            Ok(Held(key, self.locks.clone()))
        } else {
            Err(HubError::Busy)
        }
    }

    async fn free(&self) -> Result<Option<u64>, HubError> {
        Ok(self.room.get())
    }

    async fn journal(&self, key: Key) -> Result<Vec<u8>, HubError> {
        Ok(self.journals.borrow().get(&key).cloned().unwrap_or_default())
    }

    async fn append_journal(&self, key: Key, bytes: &[u8]) -> Result<(), HubError> {
        self.journals
            .borrow_mut()
            .entry(key)
            .or_default()
            .extend_from_slice(bytes);
        Ok(())
    }

    async fn write_part(&self, key: Key, offset: u64, bytes: &[u8]) -> Result<(), HubError> {
        assert!(
            self.journals.borrow().contains_key(&key),
            "bytes are written before the journal"
        );
        let mut parts = self.parts.borrow_mut();
        let part = parts.entry(key).or_default();
        let range = offset as usize..offset as usize + bytes.len();
        if part.len() < range.end {
            part.resize(range.end, 0);
        }
        part[range.clone()].copy_from_slice(bytes);
        if let Some(at) = self.spoils.get()
            && range.contains(&(at as usize))
        {
            part[at as usize] ^= 1;
            self.spoils.set(None);
        }
        self.last_write.replace(Some((key, range)));
        Ok(())
    }

    async fn writer(&self, key: Key) -> Result<PartWriter, HubError> {
        assert!(
            self.journals.borrow().contains_key(&key),
            "a part without a journal is lost"
        );
        let (parts, room) = (self.parts.clone(), self.room.get());
        parts.borrow_mut().insert(key, Vec::new());
        Ok(PartWriter { key, parts, room })
    }

    async fn read_part(&self, key: Key, range: Range<u64>) -> Result<Vec<u8>, HubError> {
        let parts = self.parts.borrow();
        Ok(parts.get(&key).map(|part| part_of(part, range)).unwrap_or_default())
    }

    async fn discard(&self, key: Key) -> Result<(), HubError> {
        self.parts.borrow_mut().remove(&key);
        self.journals.borrow_mut().remove(&key);
        Ok(())
    }

    async fn commit(&self, key: Key, size: u64, sha256: Sha256) -> Result<(), HubError> {
        let part = self.parts.borrow_mut().remove(&key).unwrap_or_default();
        assert_eq!(part.len() as u64, size);
        assert_eq!(Sha256::of(&part), sha256, "only the right content is ever kept");
        self.files.borrow_mut().insert(sha256, part);
        self.journals.borrow_mut().remove(&key);
        Ok(())
    }

    async fn parts(&self) -> Result<Vec<Key>, HubError> {
        Ok(self.journals.borrow().keys().copied().collect())
    }

    async fn size(&self, sha256: Sha256) -> Result<Option<u64>, HubError> {
        Ok(self.files.borrow().get(&sha256).map(|file| file.len() as u64))
    }

    async fn read(&self, sha256: Sha256, range: Range<u64>) -> Result<Vec<u8>, HubError> {
        let files = self.files.borrow();
        let file = files.get(&sha256).ok_or(HubError::NotKept { sha256 })?;
        Ok(part_of(file, range))
    }

    async fn list(&self) -> Result<Vec<Stored>, HubError> {
        let stored = |(sha256, file): (&Sha256, &Vec<u8>)| Stored {
            sha256: *sha256,
            size: file.len() as u64,
        };
        Ok(self.files.borrow().iter().map(stored).collect())
    }

    async fn delete(&self, sha256: Sha256) -> Result<(), HubError> {
        self.files.borrow_mut().remove(&sha256);
        Ok(())
    }

    async fn delete_all(&self) -> Result<(), HubError> {
        self.files.borrow_mut().clear();
        self.parts.borrow_mut().clear();
        self.journals.borrow_mut().clear();
        self.records.borrow_mut().clear();
        Ok(())
    }

    async fn record(&self, key: Key) -> Result<Option<Vec<u8>>, HubError> {
        Ok(self.records.borrow().get(&key).cloned())
    }

    async fn put_record(&self, key: Key, bytes: &[u8]) -> Result<(), HubError> {
        self.records.borrow_mut().insert(key, bytes.to_vec());
        Ok(())
    }

    async fn remove_record(&self, key: Key) -> Result<(), HubError> {
        self.records.borrow_mut().remove(&key);
        Ok(())
    }
}

/// Polls a future so many times at most; `None` if it was not done by then and was dropped.
pub(crate) fn run_for<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
    }
    None
}

/// Polls a future to its end, which must come.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    run_for(1_000_000, future).expect("it hangs")
}

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

pub(crate) fn source() -> Source {
    let repository = Repository::new("lorahub/flan_t5_large-trec").expect("valid");
    let commit = Commit::new(COMMIT).expect("valid");
    Source::new(repository, commit, "adapter_model.bin").expect("valid")
}

/// Chunks of 1000 bytes.
pub(crate) fn options() -> Options {
    Options {
        chunk_bytes: 1000,
        ..Options::new(Hub::new("http://127.0.0.1:1").expect("valid"), 7)
    }
}

pub(crate) fn file() -> Vec<u8> {
    Rng(1).bytes(4500)
}

/// The file, with its hash known or not.
pub(crate) fn wanted(file: &[u8], hash: bool) -> Wanted {
    Wanted {
        source: source(),
        size: hash.then_some(file.len() as u64),
        sha256: hash.then(|| Sha256::of(file)),
        chunks: None,
        blob: None,
    }
}

pub(crate) fn with_chunks(file: &[u8], bytes: usize) -> Wanted {
    Wanted {
        chunks: Some(Chunks {
            bytes: bytes as u64,
            sha256: file.chunks(bytes).map(Sha256::of).collect(),
        }),
        ..wanted(file, true)
    }
}

/// One download, with its progress.
pub(crate) fn download(server: &Server, store: &Memory, wanted: &Wanted) -> (Result<Stored, HubError>, Vec<Progress>) {
    let told = RefCell::new(Vec::new());
    let clock = Waits::default();
    let downloader = Downloader::new(server, &clock, store, options());
    let result = run(downloader.download(wanted, &Cancel::default(), &|progress| told.borrow_mut().push(progress)));
    assert!(store.locks.borrow().is_empty(), "the lock is given back");
    (result, told.into_inner())
}

pub(crate) fn stored(file: &[u8]) -> Stored {
    Stored {
        sha256: Sha256::of(file),
        size: file.len() as u64,
    }
}
