//! The benchmark natively: `lorahub-bench [--repetitions N] SHAPE...` prints one JSON report per shape on standard
//! output and progress on standard error.

#[cfg(target_arch = "wasm32")]
fn main() {}

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;
    use std::time::Instant;

    let mut repetitions = 10;
    let mut shapes = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--repetitions" {
            match arguments.next().and_then(|count| count.parse().ok()) {
                Some(count @ 1..) => repetitions = count,
                _ => {
                    eprintln!("--repetitions needs a number from 1 on");
                    return ExitCode::from(2);
                }
            }
        } else if let Some(shape) = lorahub_bench::Shape::from_name(&argument) {
            shapes.push(shape);
        } else {
            let known = lorahub_bench::Shape::ALL.map(lorahub_bench::Shape::name).join(", ");
            eprintln!("there is no shape `{argument}`; the shapes are {known}");
            return ExitCode::from(2);
        }
    }
    let start = Instant::now();
    for shape in shapes {
        let measured = pollster::block_on(lorahub_bench::run(
            shape,
            repetitions,
            || start.elapsed().as_secs_f64(),
            |line| eprintln!("{line}"),
        ));
        match measured
            .map_err(|error| error.to_string())
            .and_then(|report| serde_json::to_string(&report).map_err(|error| error.to_string()))
        {
            Ok(json) => println!("{json}"),
            Err(error) => {
                eprintln!("{}: {error}", shape.name());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
