// A vanilla RNN in JavaScript, checked as a program: one JSON object a line in, one out.
//
//   throughtime check --program node rnn.js

const fs = require("fs");
const readline = require("readline");

const I = 2, H = 4, STEPS = 12;
let T = STEPS;

const input = (t) => [Math.sin(t), Math.cos(2 * t)];
const wanted = (t) => Math.sin(t + 1);

// The flat vector holds W (H, I), U (H, H), b (H) and v (H).
const parts = (flat) => ({
  W: flat.subarray(0, H * I),
  U: flat.subarray(H * I, H * (I + H)),
  b: flat.subarray(H * (I + H), H * (I + H + 1)),
  v: flat.subarray(H * (I + H + 1)),
});

// h_t = tanh(W x_t + U h_{t-1} + b), y_t = v · h_t; states[0] is the initial state.
function forward({ W, U, b, v }) {
  const states = [new Float64Array(H)], errors = [];
  for (let t = 0; t < T; t++) {
    const x = input(t), before = states[t], h = new Float64Array(H);
    for (let j = 0; j < H; j++) {
      let z = b[j];
      for (let k = 0; k < I; k++) z += W[j * I + k] * x[k];
      for (let k = 0; k < H; k++) z += U[j * H + k] * before[k];
      h[j] = Math.tanh(z);
    }
    states.push(h);
    errors.push(h.reduce((y, hj, j) => y + v[j] * hj, 0) - wanted(t));
  }
  return { states, errors };
}

// L = Σ (y_t - wanted_t)² / T; its terms are the checker's to add up.
const terms = (p) => forward(p).errors.map((e) => (e * e) / T);

function backward(p, g) {
  const { states, errors } = forward(p);
  let dh = new Float64Array(H);
  for (let t = T - 1; t >= 0; t--) {
    const x = input(t), h = states[t + 1], before = states[t], dy = (2 * errors[t]) / T;
    const earlier = new Float64Array(H);
    for (let j = 0; j < H; j++) {
      g.v[j] += dy * h[j];
      const dz = (dh[j] + dy * p.v[j]) * (1 - h[j] * h[j]);
      g.b[j] += dz;
      for (let k = 0; k < I; k++) g.W[j * I + k] += dz * x[k];
      for (let k = 0; k < H; k++) {
        g.U[j * H + k] += dz * before[k];
        earlier[k] += dz * p.U[j * H + k];
      }
    }
    dh = earlier;
  }
}

function read(path) {
  const bytes = fs.readFileSync(path);
  return new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

function answer(request) {
  switch (request.do) {
    case "describe":
      return {
        names: ["W", "U", "b", "v"],
        shapes: [[H, I], [H, H], [H], [H]],
        dtype: "float64",
        steps: STEPS,
        optional: ["set_length"],
      };
    case "loss":
      return { loss: terms(parts(read(request.parameters))) };
    case "gradient": {
      const parameters = read(request.parameters), gradient = new Float64Array(parameters.length);
      backward(parts(parameters), parts(gradient));
      fs.writeFileSync(request.gradient, gradient);
      return {};
    }
    case "set_length":
      T = request.steps;
      return {};
  }
  return { error: `cannot ${request.do}` };
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  console.log(JSON.stringify(answer(JSON.parse(line))));
});
