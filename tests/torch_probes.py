"""What people do with a recurrent module of torch's, one probe a line, each beside torch's result.

A probe takes a model, `Net`, or its recurrent module, and returns tensors, numbers or names. It is
given the model with `torch.nn`'s modules, and one whose modules `accelerate` has swapped; both must
give the same. Where ours cannot, `REFUSED` says what it answers instead, in one line.
`python tests/torch_probes.py` prints what each gives, and `python tests/torch_probes.py GRAPHS jit`
those of one table whose name has a word. What ONNX writes is looked at where onnxruntime is there.
"""

from __future__ import annotations

import copy
import io
import sys
import warnings
from importlib.util import find_spec

import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrizations, prune

T, B, I, H = 3, 2, 3, 4  # noqa: E741
KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


class Net(nn.Module):
    """A recurrent module with a head."""

    def __init__(self, kind="LSTM", **options):
        super().__init__()
        self.rnn = KINDS[kind](I, H, **options)
        self.head = nn.Linear(H * (1 + self.rnn.bidirectional), 2)

    def forward(self, x):
        y, _ = self.rnn(x)
        return self.head(y)


def x_of(seed=1, steps=T, batch=B, dtype=torch.float32):
    """Inputs."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, batch, I, generator=generator, dtype=dtype)


X, Y, LONG = x_of(1), x_of(2), x_of(3, 2 * T, B + 1)


def frozen(model):
    """In evaluation mode, without gradients."""
    return model.eval().requires_grad_(False)


def traced(model, *given, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(model, given or (X,), check_trace=False, **options)


def reloaded(script):
    file = io.BytesIO()
    torch.jit.save(script, file)
    file.seek(0)
    return torch.jit.load(file)


def grads(model, loss):
    model.zero_grad()
    loss.backward()
    return [p.grad for p in model.parameters()]


def onnx(model, given, **options):
    """The graph that torch writes: whether it has inputs, and what it computes."""
    file = io.BytesIO()
    torch.onnx.export(model, (given,), file, input_names=["x"], **options)
    import onnxruntime

    session = onnxruntime.InferenceSession(file.getvalue())
    return torch.from_numpy(session.run(None, {"x": Y.numpy()})[0])


def without_head(f):
    return lambda model: f(model.rnn)


TRACING = {
    "jit.trace": lambda m: traced(frozen(m))(Y),
    "jit.trace with gradients": lambda m: traced(m)(Y),
    "jit.trace of the module itself": lambda m: traced(frozen(m.rnn))(Y),
    "jit.trace, its gradients": lambda m: grads(m, traced(m)(Y).sum()),
    "jit.trace, other sizes": lambda m: traced(frozen(m))(LONG),
    "jit.trace, saved and loaded": lambda m: reloaded(traced(frozen(m)))(Y),
    "jit.trace, checked by torch": lambda m: torch.jit.trace(frozen(m), (X,))(Y),
    "jit.trace of a state": lambda m: traced(frozen(m.rnn), X, (X.new_ones(1, B, H),) * 2)(
        Y, (X.new_zeros(1, B, H),) * 2
    ),
    "make_fx": lambda m: make_fx(frozen(m))(X)(Y),
    "make_fx with gradients": lambda m: make_fx(m)(X)(Y),
    "make_fx, fake": lambda m: make_fx(frozen(m), tracing_mode="fake")(X)(Y),
    "make_fx, symbolic": lambda m: make_fx(frozen(m), tracing_mode="symbolic")(X)(Y),
    "make_fx of gradients": lambda m: make_fx(
        lambda x: torch.autograd.grad(m(x).sum(), [*m.parameters()])
    )(X)(Y),
    "functionalize": lambda m: torch.func.functionalize(frozen(m))(Y),
    "flop counter": lambda m: flops(m),
    "export": lambda m: torch.export.export(frozen(m), (X,)).module()(Y),
    "export, not strict": lambda m: torch.export.export(frozen(m), (X,), strict=False).module()(Y),
    "export, strict": lambda m: torch.export.export(frozen(m), (X,), strict=True).module()(Y),
}


if find_spec("onnxruntime"):
    TRACING["ONNX by tracing"] = lambda m: onnx(frozen(m), X, dynamo=False)


def flops(model):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(Y)
    return counter.get_total_flops()


def backward_of(y, module):
    """The backward pass alone, as a function of the gradient by the outputs."""
    return lambda dy: torch.autograd.grad(y, [*module.parameters()], dy, retain_graph=True)


def rnn_of(make):
    """The names that a walk over the model finds, as initialisers, exporters and optimisers do."""
    return lambda m: [name for name, one in m.named_modules() if make(one)]


def initialised(model):
    def draw(module):
        if isinstance(module, nn.LSTM):
            for name, p in module.named_parameters():
                (nn.init.orthogonal_ if name.startswith("weight") else nn.init.ones_)(p)

    return model.apply(draw)(X)


IDENTITY = {
    "isinstance": lambda m: [isinstance(m.rnn, one) for one in (nn.LSTM, nn.GRU, nn.RNNBase)],
    "issubclass": lambda m: issubclass(type(m.rnn), nn.LSTM),
    "initialised by apply": initialised,
    "walked over": rnn_of(lambda one: isinstance(one, nn.LSTM | nn.Linear)),
    "name of the class": lambda m: m.rnn._get_name(),
    "state_dict": lambda m: [*m.state_dict()],
    "loaded": lambda m: [*m.load_state_dict(Net().state_dict())] and m(X),
    "deepcopy": lambda m: copy.deepcopy(m)(X),
    "saved and loaded": lambda m: saved_and_loaded(m)(X),
    "weight_norm": lambda m: reparametrised(m, parametrizations.weight_norm),
    "spectral_norm": lambda m: reparametrised(m.eval(), parametrizations.spectral_norm),
    "orthogonal": lambda m: reparametrised(m, parametrizations.orthogonal),
    "weight_norm, removed": lambda m: removed(m),
    "weight_norm, by hooks": lambda m: by_hooks(m, nn.utils.weight_norm),
    "spectral_norm, by hooks": lambda m: by_hooks(m.eval(), nn.utils.spectral_norm),
    "DropConnect": lambda m: [drop_connected(m), drop_connected(m)],
    "DropConnect, its flow": lambda m: [drop_connected(m, seen=True), drop_connected(m)],
    "pruned": lambda m: prune.l1_unstructured(m.rnn, "weight_hh_l0", 0.5) and m(X),
    "fused optimiser": lambda m: trained(m, torch.optim.Adam(m.parameters(), 0.1, fused=True)),
    "LBFGS": lambda m: trained(m, torch.optim.LBFGS(m.parameters(), max_iter=3)),
    "averaged": lambda m: torch.optim.swa_utils.AveragedModel(m)(X),
}


def saved_and_loaded(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def reparametrised(model, wrap):
    torch.manual_seed(4)
    wrap(model.rnn, "weight_hh_l0")
    return [y := model(X), *grads(model, y.sum())]


def by_hooks(model, wrap):
    torch.manual_seed(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still in use
        wrap(model.rnn, "weight_hh_l0")
    return [y := model(X), *grads(model, y.sum())]


def drop_connected(model, seen=False):
    """A recurrent weight that is drawn at each call, as models with weight dropout have it."""
    if "raw" not in model._parameters:
        model.raw = model.rnn.weight_hh_l0
        del model.rnn._parameters["weight_hh_l0"]

        def draw(rnn, _):
            rnn.weight_hh_l0 = nn.functional.dropout(model.raw, 0.5, model.training)

        model.rnn.register_forward_pre_hook(draw)
    if seen:
        import throughtime as tt

        torch.manual_seed(5)
        return torch.from_numpy(tt.flow(model, X, loss=lambda y: y.square().sum(-1)).lag_norms)
    torch.manual_seed(5)
    return [y := model(X), *grads(model, y.sum())]


def removed(model):
    parametrizations.weight_norm(model.rnn, "weight_hh_l0")
    with torch.no_grad():
        model.rnn.parametrizations.weight_hh_l0.original0.mul_(2)
    nn.utils.parametrize.remove_parametrizations(model.rnn, "weight_hh_l0")
    return model(X)


def trained(model, optimiser):
    def closure():
        optimiser.zero_grad()
        loss = model(X).square().mean()
        loss.backward()
        return loss

    return [optimiser.step(closure).detach() for _ in range(3)]


def batched(model, x=X, **options):
    """∂/∂x of every output of the last step."""
    x = x.clone().requires_grad_()
    y = model(x)[-1]
    rows = torch.eye(y.numel()).view(-1, *y.shape)
    return torch.autograd.grad(y, [x, *model.parameters()], rows, is_grads_batched=True, **options)


def batched_packed(model):
    y = model.rnn(nn.utils.rnn.pack_padded_sequence(X, [T, T - 1]))[0].data
    rows = torch.eye(y.numel()).view(-1, *y.shape)
    return torch.autograd.grad(y, [*model.rnn.parameters()], rows, is_grads_batched=True)


def jacobian(model, **options):
    return torch.autograd.functional.jacobian(lambda x: model(x)[-1], X, **options)


def hessian(model, **options):
    return torch.autograd.functional.hessian(lambda x: model(x).square().sum(), X[:1], **options)


def gradcheck(model, **options):
    x = X[:2, :1].double().requires_grad_()
    return torch.autograd.gradcheck(model.double(), (x,), **options)


def functional(model, x):
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    return parameters, lambda p: torch.func.functional_call(model, p, (x,)).square().sum()


def grad_of(model):
    parameters, loss = functional(model, X)
    return [*torch.func.grad(loss)(parameters).values()]


def compiled(function, *given, **options):
    torch._dynamo.reset()
    return torch.compile(function, backend="aot_eager", **options)(*given)


def compiled_grad(model, **options):
    parameters, loss = functional(model, X)
    return [*compiled(lambda p: torch.func.grad(loss)(p), parameters, **options).values()]


def per_sample(model):
    def loss(parameters, x):
        return torch.func.functional_call(model, parameters, (x.unsqueeze(1),)).square().sum()

    parameters = {name: p.detach() for name, p in model.named_parameters()}
    found = torch.func.vmap(torch.func.grad(loss), (None, 1))(parameters, X)
    return [*found.values()]


BATCHED = {
    "is_grads_batched": batched,
    "is_grads_batched, again": lambda m: batched(m, retain_graph=True),
    "is_grads_batched, packed": batched_packed,
    "is_grads_batched, create_graph": lambda m: batched(m, create_graph=True),
    "jacobian": jacobian,
    "jacobian, vectorised": lambda m: jacobian(m, vectorize=True),
    "jacobian, forward mode": lambda m: jacobian(m, vectorize=True, strategy="forward-mode"),
    "hessian": hessian,
    "hessian, vectorised": lambda m: hessian(m, vectorize=True),
    "gradcheck": gradcheck,
    "gradcheck, batched": lambda m: gradcheck(m, check_batched_grad=True),
    "gradcheck, forward": lambda m: gradcheck(
        m, check_forward_ad=True, check_batched_forward_grad=True
    ),
    "gradgradcheck, batched": lambda m: torch.autograd.gradgradcheck(
        m.double(), (X[:1, :1].double().requires_grad_(),), check_batched_grad=True
    ),
    "func.grad": grad_of,
    "func.jacrev": lambda m: torch.func.jacrev(m)(X),
    "func.jacfwd": lambda m: torch.func.jacfwd(m)(X),
    "func.hessian": lambda m: torch.func.hessian(lambda x: m(x).sum())(X[:2]),
    "func.vjp": lambda m: torch.func.vjp(m, X)[1](torch.ones(T, B, 2)),
    "func.linearize": lambda m: torch.func.linearize(m, X)[1](Y),
    "gradients of each sample": per_sample,
    "compile": lambda m: compiled(m, X),
    "compile, whole": lambda m: compiled(m, X, fullgraph=True),
    "compile, then batched": lambda m: batched(compiled_model(m)),
    "compile, then jacobian": lambda m: jacobian(compiled_model(m), vectorize=True),
    "compile around func.grad": compiled_grad,
    "compile around func.grad, whole": lambda m: compiled_grad(m, fullgraph=True),
    "compile around vmap": lambda m: compiled(
        lambda x: torch.func.vmap(m)(x), torch.stack([X, Y]), fullgraph=True
    ),
    "compile around jvp": lambda m: compiled(lambda x: torch.func.jvp(m, (x,), (Y,)), X),
}


def compiled_model(model):
    torch._dynamo.reset()
    return torch.compile(model, backend="aot_eager")


def fx(model):
    graph = torch.fx.symbolic_trace(model)
    return [[node.op for node in graph.graph.nodes], graph(Y)]


def prepared_fx(model, convert=False):
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    found = prepare_fx(model.eval(), get_default_qconfig_mapping("fbgemm"), (X,))
    found(X)
    return (convert_fx(found) if convert else found)(Y)


def quantised(model):
    torch.backends.quantized.engine = "fbgemm"
    found = torch.ao.quantization.quantize_dynamic(model.eval(), {nn.LSTM, nn.Linear})
    return [type(found.head).__name__, found(Y)]


class Duck:
    """Numbers that are no tensor, and have torch's functions."""

    def __init__(self, tensor):
        self.tensor = tensor

    def dim(self):
        return self.tensor.dim()

    def __getattr__(self, name):
        return getattr(self.tensor, name)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        def bare(one):
            if isinstance(one, Duck):
                return one.tensor
            return type(one)(map(bare, one)) if isinstance(one, list | tuple) else one

        return function(*bare(args), **(kwargs or {}))


class Sub(torch.Tensor):
    """A tensor that keeps its class."""


def exported(model, given=Y):
    file = io.BytesIO()
    torch.export.save(torch.export.export(frozen(model), (X,)), file)
    file.seek(0)
    found = torch.export.load(file)
    assert not any("throughtime" in str(node.target) for node in found.graph.nodes)
    return found.module()(given)


def expanded(model):
    from torch.nn.utils._per_sample_grad import call_for_per_sample_grads

    call_for_per_sample_grads(model.rnn, batch_size=T)(X)[0].sum().backward()
    return [p.grad_sample for p in model.rnn.parameters()]


GRAPHS = {
    "FX": fx,
    "FX with a state": lambda m: torch.fx.symbolic_trace(WithState(m.rnn))(Y, Y.new_ones(1, B, H)),
    "FX of the module itself": lambda m: torch.fx.symbolic_trace(m.rnn)(Y),
    "prepare_fx": prepared_fx,
    "convert_fx": lambda m: prepared_fx(m, convert=True),
    "quantize_dynamic": quantised,
    "jit.script": lambda m: torch.jit.script(m)(Y),
    "jit.script of the module itself": lambda m: torch.jit.script(m.rnn)(Y),
    "jit.script, saved and loaded": lambda m: reloaded(torch.jit.script(m))(LONG),
    "jit.script, frozen": lambda m: torch.jit.freeze(torch.jit.script(m.eval()))(LONG),
    "jit.script, then trained": lambda m: trained_script(m),
    "export, saved and loaded": exported,
    "a duck": lambda m: m.rnn(Duck(X))[0],
    "a subclass of Tensor": lambda m: [type(y := m(X.as_subclass(Sub))).__name__, y],
    "expanded weights": expanded,
    "mode of functions": lambda m: functions(m),
}


class WithState(nn.Module):
    """Gives a state by name."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, x, h):
        return self.rnn(x, hx=(h, h))[0]


def trained_script(model):
    script = torch.jit.script(model)
    script(X).sum().backward()
    return [p.grad for p in model.parameters()]


def functions(model):
    with torch.device("cpu"):
        return model(X)


if find_spec("onnxruntime"):
    GRAPHS["ONNX by dynamo"] = lambda m: onnx(frozen(m), X, dynamo=True)


def freed(model):
    x = X.clone()
    x.untyped_storage().resize_(0)
    return model(x)


def out_resized(model):
    y, _ = model.rnn(X)
    return y.detach().resize_(7, 2).shape


def layers_changed(model):
    model.rnn.num_layers = 2
    return model(X)


SMALL = {
    "num_layers changed": layers_changed,
    "input storage freed": freed,
    "outputs resized": out_resized,
    "outputs set": lambda m: m.rnn(X)[0].detach().set_(Y).shape,
    "outputs' storage resized": lambda m: storage_of(m.rnn(X)[0]).resize_(4).nbytes(),
    "a state of three": lambda m: m.rnn(X, (X.new_ones(1, B, H),) * 3)[0],
    "an empty state": lambda m: m.rnn(X, ())[0],
    "a list for a state": lambda m: m.rnn(X, [X.new_ones(1, B, H)] * 2)[0],
    "GRU(proj_size=)": lambda m: library(m).GRU(I, H, proj_size=2),
    "RNN(proj_size=)": lambda m: library(m).RNN(I, H, proj_size=2),
    "LSTM(nonlinearity=)": lambda m: library(m).LSTM(I, H, nonlinearity="relu"),
    "RNN of another nonlinearity": lambda m: library(m).RNN(I, H, nonlinearity="sine"),
    "no arguments": lambda m: library(m).GRU(),
    "hidden_size by name": lambda m: library(m).GRU(input_size=I, hidden_size=H).hidden_size,
    "input with gradients freed": lambda m: m(X.clone().requires_grad_()).sum().backward(),
    "state storage freed": lambda m: state_freed(m),
    "hidden_size changed": lambda m: setattr(m.rnn, "hidden_size", 3) or m(X),
    "batch_first changed": lambda m: setattr(m.rnn, "batch_first", True) or m(X),
    "a weight deleted": lambda m: delattr(m.rnn, "bias_hh_l0") or m(X),
}


def storage_of(y):
    return y.detach().untyped_storage()


def state_freed(model):
    h = torch.zeros(1, B, H)
    h.untyped_storage().resize_(0)
    return model.rnn(X, (h, torch.zeros(1, B, H)))[0]


def library(module):
    """torch.nn, or ours."""
    kind = type(module.rnn)
    return nn if kind is nn.LSTM else sys.modules["throughtime.torch"]


PROBES = {**TRACING, **IDENTITY, **BATCHED, **GRAPHS, **SMALL}

# Left to `python tests/torch_probes.py`, since each of them takes a second or more.
LONG_ONES = {
    "compile around vmap",
    "compile, then jacobian",
    "fused optimiser",
    "func.hessian",
    "hessian, vectorised",
    "jit.script, frozen",
    "jit.trace, checked by torch",
    "LBFGS",
    "make_fx, symbolic",
}
# Where ours answer otherwise than torch's: a piece of the one line that says so.
REFUSED = {
    "outputs' storage resized": "Trying to resize storage that is not resizable",
    "an empty state": "hx: expected a tuple of two tensors (h_0, c_0), got a tuple of",
    "hidden_size changed": "weight_ih_l0: expected shape (12, 3), got (16, 3)",
    "a weight deleted": "no attribute 'bias_hh_l0'",
}
# Where ours stay what they are: a piece of the warning that says so.
WARNED = {"quantize_dynamic": "call throughtime.torch.restore(model) first"}
# Where ours give an answer, and torch's fail.
MORE = {
    "jacobian, forward mode",
    "gradcheck, forward",
    "func.jacfwd",
    "func.hessian",
    "compile, whole",
    "compile around jvp",
}


def main():
    import throughtime.torch as ours

    tables = {"TRACING": TRACING, "IDENTITY": IDENTITY, "BATCHED": BATCHED, "GRAPHS": GRAPHS}
    tables["SMALL"] = SMALL
    only = tables[sys.argv.pop(1)] if sys.argv[1:2] and sys.argv[1] in tables else PROBES
    for name, probe in only.items():
        if len(sys.argv) > 1 and not any(part in name for part in sys.argv[1:]):
            continue
        torch.manual_seed(0)
        theirs = Net()
        mine = copy.deepcopy(theirs)
        ours.accelerate(mine)
        found = []
        for model in (theirs, mine):
            try:
                torch.manual_seed(1)
                found.append(probe(model))
            except Exception as error:
                found.append(f"{type(error).__name__}: {error}"[:160])
        print(name, "|", summary(found[0]), "|", summary(found[1]), flush=True)


def summary(found):
    if isinstance(found, torch.Tensor):
        return f"{tuple(found.shape)} {found.double().sum().item():.6g}"
    if isinstance(found, list | tuple):
        return [summary(one) for one in found]
    return str(found).replace("\n", " ")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
