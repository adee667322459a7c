//! `cargo xtask bench peers`: the same work done by us and by others, in one browser and natively.
//!
//! `plan` lists the work and who does it, `host` gives orders to the processes that do it, `measure` asks them in turn,
//! `tables` shows the results, and `install` gets what the others need: npm packages, a Python environment, and models
//! that it exports. All of it lies in the target folder. Nothing else in the project needs any of it.

mod host;
mod install;
mod measure;
mod plan;
pub(crate) mod tables;

use serde_json::json;

use crate::bench::{self, Place};
use crate::error::Error;

use self::host::Stage;
use self::measure::Measurement;
use self::plan::{Job, Subject, Work};

/// Repetitions that count, unless said.
const REPETITIONS: usize = 10;

/// What to compare; without a selection everything, whose results are kept.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Measure here only; may be given more than once. Each place's results are kept by themselves.
    #[arg(long = "place", value_name = "PLACE")]
    places: Vec<Place>,
    /// Only those whose name has this in it, such as `ours` or `int8, 2 threads`; may be given more than once.
    #[arg(long = "only", value_name = "NAME")]
    names: Vec<String>,
    /// This work only; may be given more than once.
    #[arg(long = "work", value_name = "WORK")]
    works: Vec<Work>,
    /// Shots of these lengths only: 64, 256, date_understanding, tracking_shuffled_objects_seven_objects.
    #[arg(long = "lengths", value_name = "LENGTHS")]
    lengths: Vec<String>,
    /// Interleaved repetitions, instead of ten (five of what takes more than ten seconds).
    #[arg(long)]
    repetitions: Option<usize>,
    /// Models: flan-t5-small, flan-t5-base.
    shapes: Vec<String>,
}

impl Arguments {
    fn is_whole(&self) -> bool {
        self.names.is_empty()
            && self.works.is_empty()
            && self.lengths.is_empty()
            && self.repetitions.is_none()
            && self.shapes.is_empty()
    }

    fn takes_subject(&self, subject: &Subject) -> bool {
        let name = subject.label();
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
    }

    fn takes_job(&self, job: &Job) -> bool {
        let among = |choice: &[String], name: &str| choice.is_empty() || choice.iter().any(|one| one == name);
        (self.works.is_empty() || self.works.contains(&job.work))
            && among(&self.shapes, job.shape)
            && (job.work != Work::Evaluation || among(&self.lengths, job.lengths))
    }
}

/// `cargo xtask bench peers`.
///
/// # Errors
/// A failed installation, build or run, or a selection that leaves nothing.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    let places = if arguments.places.is_empty() {
        &[Place::Native, Place::Browser][..]
    } else {
        &arguments.places
    };
    for &place in places {
        let load_before = bench::load();
        let subjects: Vec<Subject> = plan::subjects(place)
            .into_iter()
            .filter(|subject| arguments.takes_subject(subject))
            .collect();
        let jobs: Vec<Job> = plan::jobs(place)
            .into_iter()
            .filter(|job| arguments.takes_job(job) && subjects.iter().any(|subject| subject.does(job.work)))
            .collect();
        if jobs.is_empty() {
            let names: Vec<String> = plan::subjects(place).iter().map(Subject::label).collect();
            println!(
                "  {}: nobody is left to measure; there are {}",
                place.name(),
                names.join("; ")
            );
            continue;
        }
        let mut stage = Stage::new(install::all(place, &subjects, &jobs)?);
        let mut reports = Vec::new();
        for (index, job) in jobs.iter().enumerate() {
            println!("[{}, {} of {}] {}", place.name(), index + 1, jobs.len(), job.title());
            let doing: Vec<&Subject> = subjects.iter().filter(|subject| subject.does(job.work)).collect();
            reports.extend(Measurement::new(job, &doing, &mut stage, arguments.repetitions)?.reports());
        }
        let device = json!({
            "kind": "device", "name": format!("peers ({})", stage.programs().join("; ")), "software": false,
            "list": "peers", "repetitions": arguments.repetitions.unwrap_or(REPETITIONS),
        });
        reports.insert(0, device);
        let name = format!("peers-{}.json", place.name());
        bench::keep(
            place,
            load_before,
            reports,
            arguments.is_whole().then_some(name.as_str()),
        )?;
    }
    Ok(())
}
