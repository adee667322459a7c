//! The benchmark natively: `lorahub-bench --device cpu|webgpu ...` prints one JSON result a line on standard output and
//! progress on standard error.

#[cfg(target_arch = "wasm32")]
fn main() {}

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    native::main()
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::process::ExitCode;
    use std::rc::Rc;
    use std::time::Instant;

    use clap::Parser;
    use cpu_time::ProcessTime;
    use lorahub_bench::{Choice, Device, List, Machine, Measure, Report, Shape, run};

    /// What products, evaluations and generation cost on random weights.
    #[derive(Parser)]
    #[command(name = "lorahub-bench")]
    struct Cli {
        /// Where to measure.
        #[arg(long, value_enum, default_value_t = Device::Cpu)]
        device: Device,
        /// How much to measure; the device has a default.
        #[arg(long, value_enum)]
        list: Option<List>,
        /// This measure alone; may be given more than once.
        #[arg(long = "measure", value_enum)]
        measures: Vec<Measure>,
        /// Interleaved repetitions; the list has a default.
        #[arg(long)]
        repetitions: Option<usize>,
        /// These models alone.
        #[arg(value_enum)]
        shapes: Vec<Shape>,
    }

    struct Native {
        wall: Instant,
        cpu: ProcessTime,
    }

    impl Machine for Native {
        fn seconds(&self) -> f64 {
            self.wall.elapsed().as_secs_f64()
        }

        fn clock(&self) -> Rc<dyn Fn() -> f64> {
            let wall = self.wall;
            Rc::new(move || wall.elapsed().as_secs_f64())
        }

        async fn cpu_seconds(&self) -> Option<f64> {
            Some(self.cpu.elapsed().as_secs_f64())
        }

        fn say(&self, line: &str) {
            eprintln!("{line}");
        }

        fn report(&self, report: &Report) {
            println!("{}", report.json());
        }
    }

    pub(super) fn main() -> ExitCode {
        let cli = Cli::parse();
        let choice = Choice {
            list: cli.list,
            shapes: cli.shapes,
            measures: cli.measures,
            repetitions: cli.repetitions,
        };
        let machine = Native {
            wall: Instant::now(),
            cpu: ProcessTime::now(),
        };
        match pollster::block_on(run(cli.device, &choice, &machine)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }
}
