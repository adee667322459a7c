// tile: a 4x4 block of a matrix product in registers.

// Row i of the block is ri; its columns are the components.
struct Tile {
    r0: vec4<f32>,
    r1: vec4<f32>,
    r2: vec4<f32>,
    r3: vec4<f32>,
}

// Adds the product of four rows of x and four rows of W over four consecutive k, in ascending order: every kernel
// sums an output's terms in the same order.
fn multiply_add(
    tile: Tile,
    x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>,
    w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>,
) -> Tile {
    var sum = tile;
    let k0 = vec4(w0.x, w1.x, w2.x, w3.x);
    sum.r0 += x0.x * k0;
    sum.r1 += x1.x * k0;
    sum.r2 += x2.x * k0;
    sum.r3 += x3.x * k0;
    let k1 = vec4(w0.y, w1.y, w2.y, w3.y);
    sum.r0 += x0.y * k1;
    sum.r1 += x1.y * k1;
    sum.r2 += x2.y * k1;
    sum.r3 += x3.y * k1;
    let k2 = vec4(w0.z, w1.z, w2.z, w3.z);
    sum.r0 += x0.z * k2;
    sum.r1 += x1.z * k2;
    sum.r2 += x2.z * k2;
    sum.r3 += x3.z * k2;
    let k3 = vec4(w0.w, w1.w, w2.w, w3.w);
    sum.r0 += x0.w * k3;
    sum.r1 += x1.w * k3;
    sum.r2 += x2.w * k3;
    sum.r3 += x3.w * k3;
    return sum;
}

