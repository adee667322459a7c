//! Merging a module into the base, for deployment. Composing never does this.

use lorahub_weights::SafeTensors;

use crate::{AdapterError, LoraPair, Module};

/// One tensor of a merged base.
#[derive(Clone, Debug, PartialEq)]
pub struct MergedTensor {
    /// Its name, as in the base.
    pub name: String,
    /// Its shape, as in the base.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub data: Vec<f32>,
}

/// The update `s B A` of one target, `[d_out, d_in]` row-major, summed in f64 and rounded to f32 once.
pub fn delta(pair: &LoraPair, scaling: f64) -> Vec<f32> {
    let mut update = Vec::with_capacity(pair.d_out * pair.d_in);
    for_each_row(pair, scaling, |_, row| {
        update.extend(row.iter().map(|&value| value as f32))
    });
    update
}

/// The base's tensors with `module` added: `W + s B A` for its targets, the rest as they are, all in f32.
///
/// One tensor after the other, so that a caller who writes each one out at once never holds the whole base.
/// Before the first one it is checked that every target is there and fits.
///
/// # Errors
/// At once: [`AdapterError::MergeMissing`] or [`AdapterError::MergeShape`] for a target that the base lacks.
/// From the iterator: [`AdapterError::MergeBase`] if a tensor cannot be read, [`AdapterError::Overflow`] if a sum
/// leaves the range of f32.
pub fn merge<'m>(
    module: &'m Module,
    base: &'m SafeTensors<'m>,
) -> Result<impl Iterator<Item = Result<MergedTensor, AdapterError>> + 'm, AdapterError> {
    for (path, pair) in &module.pairs {
        let name = weight_name(path);
        let missing = |_| AdapterError::MergeMissing {
            module: module.name.clone(),
            name: name.clone(),
        };
        let found = base.shape(&name).map_err(missing)?;
        let expected = [pair.d_out, pair.d_in];
        if found != expected {
            let (module, found) = (module.name.clone(), found.to_vec());
            return Err(AdapterError::MergeShape {
                module,
                name,
                expected,
                found,
            });
        }
    }
    Ok(base.names().map(|name| merge_tensor(module, base, name)))
}

/// The name of a target's weight in the base.
fn weight_name(path: &str) -> String {
    format!("{path}.weight")
}

fn merge_tensor(module: &Module, base: &SafeTensors<'_>, name: &str) -> Result<MergedTensor, AdapterError> {
    let unreadable = |problem| AdapterError::MergeBase { problem };
    let shape = base.shape(name).map_err(unreadable)?.to_vec();
    let mut data = base.f32(name).map_err(unreadable)?;
    let target = name
        .strip_suffix(".weight")
        .and_then(|path| module.pairs.get_key_value(path));
    if let Some((path, pair)) = target {
        // The base's value joins the sum before it is rounded.
        for_each_row(pair, module.scales().scaling_at(path, pair.rank), |o, row| {
            let weights = &mut data[o * pair.d_in..][..pair.d_in];
            weights
                .iter_mut()
                .zip(row)
                .for_each(|(weight, &update)| *weight = (f64::from(*weight) + update) as f32);
        });
        if !data.iter().all(|value| value.is_finite()) {
            return Err(AdapterError::Overflow {
                what: "the merged weight",
                path: path.clone(),
            });
        }
    }
    Ok(MergedTensor {
        name: name.to_owned(),
        shape,
        data,
    })
}

/// Calls `with` with each row `o` of `s B A`, in f64.
fn for_each_row(pair: &LoraPair, scaling: f64, mut with: impl FnMut(usize, &[f64])) {
    let mut row = vec![0.0; pair.d_in];
    for (o, b_row) in pair.b.chunks_exact(pair.rank).enumerate() {
        row.fill(0.0);
        for (&b, a_row) in b_row.iter().zip(pair.a.chunks_exact(pair.d_in)) {
            let factor = scaling * f64::from(b);
            row.iter_mut()
                .zip(a_row)
                .for_each(|(sum, &a)| *sum += factor * f64::from(a));
        }
        with(o, &row);
    }
}
