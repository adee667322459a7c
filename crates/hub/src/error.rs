//! Every way in which a manifest can be wrong, or a download can fail.

use lorahub_weights::WeightsError;

use crate::{GitBlob, Sha256};

/// Why a manifest, or a part of one, cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// More bytes than any real manifest has.
    #[error("the manifest has {found} bytes, the limit is {limit}; split it")]
    TooLong {
        /// Bytes in the file.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Not JSON of the published form.
    #[error("the manifest is not of the form its schema prescribes ({reason}); correct it")]
    Json {
        /// What the JSON reader says.
        reason: String,
    },
    /// Another version of the form.
    #[error("the manifest has version {found}, expected 1; use the program that it was made for")]
    Version {
        /// Its version.
        found: u32,
    },
    /// Too many entries of a kind.
    #[error("the manifest has {found} {what}, the limit is {limit}; split it")]
    TooMany {
        /// Which.
        what: &'static str,
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A name that cannot be shown or typed.
    #[error(
        "the manifest has the {what} name `{found}`, expected 1 to 200 bytes without control characters; rename it"
    )]
    Name {
        /// Of what.
        what: &'static str,
        /// The name, escaped and cut.
        found: String,
    },
    /// A name given twice.
    #[error("the manifest has the {what} `{name}` twice, expected once; remove one")]
    Duplicate {
        /// Of what.
        what: &'static str,
        /// The name, escaped and cut.
        name: String,
    },
    /// A name that stands for nothing in the manifest.
    #[error("`{by}` names the {what} `{name}`, which the manifest does not list; add it")]
    Unlisted {
        /// Of what.
        what: &'static str,
        /// The name, escaped and cut.
        name: String,
        /// Who names it, escaped and cut.
        by: String,
    },
    /// An unknown rule of composition.
    #[error("module `{name}` has the rule `{found}`, expected `reference` or `exact`; correct it")]
    Rule {
        /// The module.
        name: String,
        /// The rule, escaped and cut.
        found: String,
    },
    /// A text too long to be shown.
    #[error("`{name}` has a text of {found} bytes, the limit is {limit}; shorten it")]
    LongText {
        /// Whose.
        name: String,
        /// Its bytes.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// No files, or too many.
    #[error("`{name}` has {found} files, expected 1 to {limit}; correct its list")]
    Files {
        /// Whose.
        name: String,
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Hashes of parts that cannot be of the file.
    #[error("the chunks of `{path}` cannot be its own: {problem}; make the manifest again")]
    Chunks {
        /// The file.
        path: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A file of the manifest that the hub's list does not have.
    #[error("`{name}` has the file `{path}`, which its repository does not have at that commit; correct its list")]
    NoFile {
        /// The base or module.
        name: String,
        /// The file.
        path: String,
    },
    /// Not a commit.
    #[error(
        "`{found}` is not a commit, expected 40 lower-case hexadecimal digits; name the commit, not a branch or tag"
    )]
    Commit {
        /// The text, escaped and cut.
        found: String,
    },
    /// No commit is known.
    #[error("`{name}` has no commit, and none was resolved; resolve `main` first, or name a commit")]
    NoCommit {
        /// The base or module.
        name: String,
    },
    /// Not a repository's name.
    #[error("`{found}` is not a repository, expected `owner/name` of letters, digits, `-`, `_` and `.`; correct it")]
    Repository {
        /// The text, escaped and cut.
        found: String,
    },
    /// Not a file's path.
    #[error("`{found}` is not a path in a repository, expected plain names with `/` between them; correct it")]
    Path {
        /// The text, escaped and cut.
        found: String,
    },
    /// Not a hub's address.
    #[error(
        "`{found}` is not a hub's address, expected https://..., http:// on this machine, or a path on this host; \
         correct it"
    )]
    Hub {
        /// The text, escaped and cut.
        found: String,
    },
}

impl ManifestError {
    /// The variant's own short name, which does not change between versions: for programs to compare.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "manifest-too-long",
            Self::Json { .. } => "manifest-json",
            Self::Version { .. } => "manifest-version",
            Self::TooMany { .. } => "manifest-too-many",
            Self::Name { .. } => "manifest-name",
            Self::Duplicate { .. } => "manifest-duplicate",
            Self::Unlisted { .. } => "manifest-unlisted",
            Self::Rule { .. } => "manifest-rule",
            Self::LongText { .. } => "manifest-long-text",
            Self::Files { .. } => "manifest-files",
            Self::Chunks { .. } => "manifest-chunks",
            Self::NoFile { .. } => "manifest-no-file",
            Self::Commit { .. } => "manifest-commit",
            Self::NoCommit { .. } => "manifest-no-commit",
            Self::Repository { .. } => "manifest-repository",
            Self::Path { .. } => "manifest-path",
            Self::Hub { .. } => "manifest-hub",
        }
    }
}

/// Why a file could not be fetched, kept or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A part of the manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A kept weight file is wrong.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The storage failed.
    #[error("the storage cannot {action} ({reason}); check its space and rights, or delete what is kept there")]
    Store {
        /// What was tried.
        action: &'static str,
        /// What the system says.
        reason: String,
    },
    /// Content that is not kept.
    #[error("the file {sha256} is not kept here; download it again")]
    NotKept {
        /// Its hash.
        sha256: Sha256,
    },
    /// Kept content that has changed.
    #[error("the file {expected} now has the hash {found}: the storage changed it; delete it and download it again")]
    Corrupt {
        /// Its hash.
        expected: Sha256,
        /// The hash of what is kept.
        found: Sha256,
    },
    /// A sample of a kept file is not what was kept.
    #[error(
        "bytes {start} to {end} of {name} have changed in the storage ({found}); the file was deleted: download it again"
    )]
    Damaged {
        /// The file.
        name: String,
        /// The sample's first byte.
        start: u64,
        /// The byte behind its last.
        end: u64,
        /// What is there, and what was expected.
        found: String,
    },
    /// Another tab or process is downloading the same file.
    #[error("the file is being downloaded by another tab or process; wait for it, or close it")]
    Busy,
    /// Not enough space.
    #[error("the file needs {needed} more bytes, but the storage has {free}; delete kept models or free space")]
    Quota {
        /// Bytes still to come.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The caller cancelled.
    #[error("the download was cancelled; what has come is kept, and it goes on from there")]
    Cancelled,
    /// No answer, or broken ones, too often.
    #[error("{url} failed {attempts} times, the last time because {reason}; check the connection and go on later")]
    Network {
        /// The address.
        url: String,
        /// Tries without progress.
        attempts: u32,
        /// What happened last.
        reason: String,
    },
    /// The file is not there.
    #[error("{url} is not there (status {status}); check the repository, commit and path")]
    NotFound {
        /// The address.
        url: String,
        /// 404 or 410.
        status: u16,
    },
    /// The hub does not give the file to anyone.
    #[error(
        "{url} is refused (status {status}); the model may ask for a login or for terms to be accepted: use a mirror"
    )]
    Forbidden {
        /// The address.
        url: String,
        /// 401 or 403.
        status: u16,
    },
    /// The hub asks to wait longer than we do.
    #[error("{url} asks to wait {seconds} seconds; go on after that")]
    RateLimited {
        /// The address.
        url: String,
        /// How long.
        seconds: u64,
    },
    /// An answer that no try will change.
    #[error("{url} answered with status {status}, expected the file; check the hub's or mirror's address")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
    },
    /// Another size than the manifest's, or larger than can be.
    #[error("{url} has {found} bytes, expected {expected}; the file has changed: refresh the manifest")]
    Size {
        /// The address.
        url: String,
        /// By the manifest, or by what has come before.
        expected: u64,
        /// By the answer.
        found: u64,
    },
    /// More bytes than any model has.
    #[error("{url} is said to have {found} bytes, the limit is {limit}; check the address")]
    TooLarge {
        /// The address.
        url: String,
        /// By the answer or the manifest.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The file changed while it came, more than once.
    #[error("{url} changes while it is downloaded; download it later")]
    Changed {
        /// The address.
        url: String,
    },
    /// The whole file has another hash.
    #[error(
        "{url} has the hash {found}, expected {expected}; nothing of it is kept: download it again or refresh the manifest"
    )]
    Digest {
        /// The address.
        url: String,
        /// By the manifest, or by the first download.
        expected: Sha256,
        /// Of what came.
        found: Sha256,
    },
    /// The whole file has another content than the hub's list says.
    #[error("{url} is {found} as git names contents, expected {expected}; nothing of it is kept: download it again")]
    BlobDigest {
        /// The address.
        url: String,
        /// By the hub's list.
        expected: GitBlob,
        /// Of what came.
        found: GitBlob,
    },
    /// A part has another hash, every time.
    #[error(
        "bytes {start} to {end} of {url} come with the hash {found}, expected {expected}; refresh the manifest or use another hub"
    )]
    ChunkDigest {
        /// The address.
        url: String,
        /// The part's first byte.
        start: u64,
        /// The byte behind its last.
        end: u64,
        /// By the manifest.
        expected: Sha256,
        /// Of what came.
        found: Sha256,
    },
    /// The hub's API answered with something else.
    #[error("the hub's answer is not what its API prescribes ({reason}); check the hub's address")]
    Api {
        /// What is wrong.
        reason: String,
    },
}

impl HubError {
    /// The variant's own short name, which does not change between versions: for programs to compare.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Manifest(problem) => problem.code(),
            Self::Weights(problem) => problem.code(),
            Self::Store { .. } => "hub-store",
            Self::NotKept { .. } => "hub-not-kept",
            Self::Corrupt { .. } => "hub-corrupt",
            Self::Damaged { .. } => "hub-damaged",
            Self::Busy => "hub-busy",
            Self::Quota { .. } => "hub-quota",
            Self::Cancelled => "hub-cancelled",
            Self::Network { .. } => "hub-network",
            Self::NotFound { .. } => "hub-not-found",
            Self::Forbidden { .. } => "hub-forbidden",
            Self::RateLimited { .. } => "hub-rate-limited",
            Self::Status { .. } => "hub-status",
            Self::Size { .. } => "hub-size",
            Self::TooLarge { .. } => "hub-too-large",
            Self::Changed { .. } => "hub-changed",
            Self::Digest { .. } => "hub-digest",
            Self::BlobDigest { .. } => "hub-blob-digest",
            Self::ChunkDigest { .. } => "hub-chunk-digest",
            Self::Api { .. } => "hub-api",
        }
    }
}
