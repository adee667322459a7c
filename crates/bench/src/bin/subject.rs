//! A [`Subject`](lorahub_bench::Subject) natively, under orders: a line of JSON on standard input is an order, a line on
//! standard output its answer. `cargo xtask bench peers` gives them.

#[cfg(target_arch = "wasm32")]
fn main() {}

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::io::Result<()> {
    native::main()
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::io::{BufRead as _, Write as _};
    use std::time::Instant;

    use cpu_time::ProcessTime;
    use lorahub_bench::{Job, Setup, Subject};
    use serde::Deserialize;
    use serde_json::{Value, json};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Order {
        Setup { setup: Setup, job: Job },
        Run { run: usize },
    }

    pub(super) fn main() -> std::io::Result<()> {
        let mut out = std::io::stdout();
        writeln!(
            out,
            "{}",
            json!({"program": concat!("lorahub-bench ", env!("CARGO_PKG_VERSION"))})
        )?;
        let mut subject = None;
        for line in std::io::stdin().lock().lines() {
            let answer = obey(&line?, &mut subject).unwrap_or_else(|error| json!({"error": error.to_string()}));
            writeln!(out, "{answer}")?;
        }
        Ok(())
    }

    fn obey(line: &str, subject: &mut Option<Subject>) -> Result<Value, Box<dyn std::error::Error>> {
        match serde_json::from_str(line)? {
            Order::Setup { setup, job } => {
                *subject = Some(Subject::new(setup, None, &job)?);
                Ok(json!({}))
            }
            Order::Run { run } => {
                let subject = subject.as_mut().ok_or("nothing has been set up")?;
                let (wall, cpu) = (Instant::now(), ProcessTime::now());
                let value = pollster::block_on(subject.run(run))?;
                let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu.elapsed().as_secs_f64());
                Ok(json!({"wall": wall, "cpu": cpu, "value": value}))
            }
        }
    }
}
