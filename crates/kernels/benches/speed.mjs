// Times a wasm build of `examples/speed.rs` against candle's matrix product and plain loops, in one process:
//   node [--experimental-wasm-relaxed-simd] crates/kernels/benches/speed.mjs <speed.wasm> [rounds]
// Contenders take turns; numbers are medians over the rounds, of processor time, so that other processes matter less.
import { readFileSync } from "node:fs";
import { argv, cpuUsage } from "node:process";

// M x K x N: linears of T5 small and base over a few tokens and over batches of candidates, and rank-16 LoRA.
const SHAPES = [
  [1, 512, 512], [1, 512, 32128], [2, 512, 512], [3, 512, 512], [4, 512, 512], [5, 512, 512], [5, 512, 2816], [16, 512, 512], [16, 512, 2816],
  [320, 512, 512], [1280, 512, 512], [5120, 512, 512], [1280, 512, 1024], [1280, 512, 2816], [1280, 2816, 512],
  [1280, 768, 768], [1024, 1024, 1024], [320, 512, 16], [320, 16, 512],
];
const FORMS = ["candle", "f32", "f16", "q8_0", "integer"];
const ROW_OPERATIONS = [["rms_norm", 512], ["softmax", 64], ["softmax", 256], ["gated_gelu", 1024], ["log_sum_exp", 32128]];
const SAMPLE_FLOP = 2e8;

const { exports } = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(argv[2])));
const rounds = Number(argv[3] ?? 15);

const now = () => {
  const { user, system } = cpuUsage();
  return (user + system) / 1e6;
};

function median(values) {
  return values.sort((a, b) => a - b)[values.length >> 1];
}

/** Seconds of each contender, the median of its rounds. */
function race(contenders) {
  const times = contenders.map(() => []);
  for (let round = -3; round < rounds; round++) {
    contenders.forEach((run, index) => {
      const start = now();
      run();
      if (round >= 0) times[index].push(now() - start);
    });
  }
  return times.map(median);
}

function row(cells) {
  console.log(cells.map((cell, index) => String(cell)[index ? "padStart" : "padEnd"](index ? 9 : 18)).join(""));
}

row(["GFLOP/s", ...FORMS, "f32 gain"]);
for (const [m, k, n] of SHAPES) {
  const flop = 2 * m * k * n;
  const times = Math.max(1, Math.round(SAMPLE_FLOP / flop));
  const operands = exports.products(m, k, n);
  const seconds = race(FORMS.map((_, form) => () => exports.product(operands, form, times)));
  exports.drop_products(operands);
  const speeds = seconds.map((s) => (flop * times) / s / 1e9);
  row([`${m}x${k}x${n}`, ...speeds.map((speed) => speed.toFixed(1)), (speeds[1] / speeds[0]).toFixed(2)]);
}

row(["us", "plain", "kernel", "gain"]);
for (const length of [16, 64, 256]) {
  const times = Math.ceil(1e6 / length ** 2);
  const seconds = race([0, 1].map((form) => () => exports.attention(length, form, times)));
  const [plain, kernel] = seconds.map((s) => (s / times) * 1e6);
  row([`attention ${length}`, plain.toFixed(1), kernel.toFixed(1), (plain / kernel).toFixed(2)]);
}
for (const [name, length] of ROW_OPERATIONS) {
  const operation = ["rms_norm", "softmax", "gated_gelu", "log_sum_exp"].indexOf(name);
  const times = Math.ceil(5e5 / length);
  const seconds = race([0, 1].map((form) => () => exports.row(operation, length, form, times)));
  const [plain, kernel] = seconds.map((s) => (s / times) * 1e6);
  row([`${name} ${length}`, plain.toFixed(2), kernel.toFixed(2), (plain / kernel).toFixed(2)]);
}
