//! The start-up test: it passes here, finds every kind of wrong kernel, and chooses among the right ones.

use std::cell::Cell;

use lorahub_webgpu::{Calibration, GpuError, Matmul, Options, Tuning, WeightStorage};

use crate::open;

type Edit = fn(&'static str, String) -> String;

/// A clock that goes on by a millisecond at every look.
fn calibrate(options: Options, remembered: Option<&Tuning>) -> (Result<Calibration, GpuError>, Matmul) {
    let gpu = open(options);
    let now = Cell::new(0.0);
    let seconds = || {
        now.set(now.get() + 1e-3);
        now.get()
    };
    (pollster::block_on(gpu.calibrate(&seconds, remembered)), gpu.matmul())
}

/// Makes the last line of a kernel that has this name wrong by a part in a thousand.
fn wrong(wgsl: String) -> String {
    let wrong = wgsl.replace("= value.x;", "= value.x * 1.001;").replace(
        "y[first + c] = x[first + c] * inverse",
        "y[first + c] = 1.001 * x[first + c] * inverse",
    );
    assert_ne!(wrong, wgsl, "nothing was made wrong");
    wrong
}

#[test]
fn every_kernel_passes_in_every_weight_format() {
    for weights in [
        WeightStorage::F32,
        WeightStorage::Lossless,
        WeightStorage::F16,
        WeightStorage::Q8,
        WeightStorage::Q4,
    ] {
        let options = Options {
            weights,
            ..Options::default()
        };
        let (calibration, matmul) = calibrate(options, None);
        let calibration = calibration.unwrap();
        assert_eq!(calibration.rejected, []);
        assert_eq!(calibration.tuning.matmul, matmul);
    }
}

/// On a software adapter the barrier-free kernel is taken unmeasured; on a GPU every kernel has been measured.
#[test]
fn the_choice_is_measured_on_a_gpu() {
    let software = open(Options::default()).is_software();
    let (calibration, matmul) = calibrate(Options::default(), None);
    let calibration = calibration.unwrap();
    if software {
        assert_eq!((matmul, calibration.gflops.len()), (Matmul::Register, 0));
        assert_eq!(calibration.tuning.gflops, None);
    } else {
        assert_eq!(calibration.gflops.len(), Matmul::ALL.len());
        let best = calibration.gflops.iter().map(|(_, gflops)| *gflops).fold(0.0, f64::max);
        assert_eq!(calibration.tuning.gflops, Some(best));
    }
}

#[test]
fn a_wrong_matrix_kernel_is_rejected_with_a_reason() {
    let options = Options {
        edit_wgsl: Some(|kernel, wgsl| match kernel {
            "linear_register" => wrong(wgsl),
            _ => wgsl,
        }),
        ..Options::default()
    };
    let (calibration, matmul) = calibrate(options, None);
    let calibration = calibration.unwrap();
    assert_ne!(matmul, Matmul::Register);
    let [(rejected, reason)] = &calibration.rejected[..] else {
        panic!("{:?}", calibration.rejected);
    };
    assert_eq!(*rejected, Matmul::Register);
    assert!(reason.contains("linear_register, f32 weights"), "{reason}");
    assert!(
        reason.contains("row 0, column 0") && reason.contains("driver"),
        "{reason}"
    );
}

/// The wide kernel leaves small products to the tiled one, so it falls with it.
#[test]
fn what_leans_on_a_wrong_kernel_is_not_chosen() {
    let options = Options {
        edit_wgsl: Some(|kernel, wgsl| match kernel {
            "linear_tile" | "linear_register" => wrong(wgsl),
            _ => wgsl,
        }),
        ..Options::default()
    };
    let (calibration, _) = calibrate(options, None);
    assert_eq!(calibration.unwrap_err().code(), "self_test");
}

#[test]
fn a_wrong_kernel_without_an_alternative_is_an_error() {
    let cases: [(&str, Edit); 5] = [
        ("linear_split", |kernel, wgsl| match kernel {
            "linear_split" => wrong(wgsl),
            _ => wgsl,
        }),
        ("rms_norm", |kernel, wgsl| match kernel {
            "rms_norm" => wrong(wgsl),
            _ => wgsl,
        }),
        ("attention_split", |kernel, wgsl| match kernel {
            "attention_split" => wrong(wgsl),
            _ => wgsl,
        }),
        ("attention", |kernel, wgsl| match kernel {
            "attention" => wrong(wgsl),
            _ => wgsl,
        }),
        ("linear_", |kernel, wgsl| match kernel {
            "linear_register" | "linear_tile" | "linear_wide" => wrong(wgsl),
            _ => wgsl,
        }),
    ];
    for (name, edit_wgsl) in cases {
        let options = Options {
            edit_wgsl: Some(edit_wgsl),
            ..Options::default()
        };
        let (calibration, _) = calibrate(options, None);
        let error = calibration.unwrap_err();
        assert_eq!(error.code(), "self_test", "{error}");
        let GpuError::WrongNumbers { kernel, .. } = &error else {
            panic!("{error}");
        };
        assert!(kernel.starts_with(name), "{name}: {error}");
    }
}

/// An overflow that comes out finite is a wrong number too.
#[test]
fn an_overflow_that_passes_for_a_number_is_an_error() {
    let options = Options {
        edit_wgsl: Some(|kernel, wgsl| match kernel {
            "rms_norm" => wgsl.replace("if is_overflow(total)", "if false"),
            _ => wgsl,
        }),
        ..Options::default()
    };
    let (calibration, _) = calibrate(options, None);
    let error = calibration.unwrap_err().to_string();
    assert!(error.contains("rms_norm") && error.contains("overflow"), "{error}");
}

#[test]
fn a_forced_kernel_is_the_only_one_tried() {
    let forced = |edit_wgsl| Options {
        matmul: Some(Matmul::Tile),
        edit_wgsl,
        ..Options::default()
    };
    let (calibration, matmul) = calibrate(
        forced(Some(|kernel, wgsl| match kernel {
            "linear_register" | "linear_wide" => wrong(wgsl),
            _ => wgsl,
        })),
        None,
    );
    assert_eq!((calibration.unwrap().rejected, matmul), (Vec::new(), Matmul::Tile));
    let (calibration, _) = calibrate(
        forced(Some(|kernel, wgsl| match kernel {
            "linear_tile" => wrong(wgsl),
            _ => wgsl,
        })),
        None,
    );
    assert_eq!(calibration.unwrap_err().code(), "self_test");
}

/// What was remembered is tested, not measured; and it is dropped where it is wrong by now, or another adapter's.
#[test]
fn a_remembered_choice_spares_the_measurement() {
    let tuning = calibrate(Options::default(), None).0.unwrap().tuning;
    let json = serde_json::to_string(&tuning).unwrap();
    assert_eq!(serde_json::from_str::<Tuning>(&json).unwrap(), tuning);
    let (again, _) = calibrate(Options::default(), Some(&tuning));
    let again = again.unwrap();
    assert_eq!((again.tuning, again.gflops.len()), (tuning.clone(), 0));

    let edit: Edit = match tuning.matmul {
        Matmul::Register => |kernel, wgsl| if kernel == "linear_register" { wrong(wgsl) } else { wgsl },
        _ => |kernel, wgsl| if kernel == "linear_tile" { wrong(wgsl) } else { wgsl },
    };
    let options = Options {
        edit_wgsl: Some(edit),
        ..Options::default()
    };
    let (calibration, matmul) = calibrate(options, Some(&tuning));
    assert_eq!(calibration.unwrap().rejected.len(), 1);
    assert_ne!(matmul, tuning.matmul);

    let foreign = Tuning {
        adapter: "another".to_owned(),
        matmul: Matmul::Wide,
        ..tuning
    };
    let (calibration, _) = calibrate(Options::default(), Some(&foreign));
    assert_ne!(calibration.unwrap().tuning.adapter, "another");
}
