"""The bridge to torch's weights: round trips bit for bit, and refusals that name the cause."""

import re
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import throughtime as tt
from helpers import network, relative_error
from throughtime.torch import from_torch, to_torch, torch_state_dict

NETWORKS = {
    "RNN tanh": [tt.RNN(3, 4)],
    "RNN relu, both directions": [tt.RNN(3, 4, "relu", bidirectional=True)],
    "LSTM, stacked": [tt.LSTM(3, 4), tt.LSTM(4, 4)],
    "LSTM, projection, both directions, stacked": [
        tt.LSTM(3, 4, projection=2, bidirectional=True),
        tt.LSTM(4, 4, projection=2, bidirectional=True),
    ],
    "GRU, dropout between": [
        tt.GRU(3, 4),
        tt.Dropout(0.2),
        tt.GRU(4, 4),
        tt.Dropout(0.2),
        tt.GRU(4, 4),
    ],
}


def module_of(torch, net, **options):
    cells = [spec for spec in net.specs if not isinstance(spec, tt.Dropout)]
    first = cells[0]
    rates = [spec.rate for spec in net.specs if isinstance(spec, tt.Dropout)]
    if isinstance(first, tt.RNN):
        options["nonlinearity"] = first.nonlinearity
    if isinstance(first, tt.LSTM):
        options["proj_size"] = first.projection or 0
    kind = getattr(torch.nn, type(first).__name__)
    return kind(
        first.inputs,
        first.units,
        num_layers=len(cells),
        bidirectional=first.bidirectional,
        dropout=rates[0] if rates else 0.0,
        **options,
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
class TestRoundTrip:
    def test_through_a_mapping(self, name, dtype):
        net = network(NETWORKS[name], dtype)
        options = {"nonlinearity": getattr(net.specs[0], "nonlinearity", None)}
        rates = [spec.rate for spec in net.specs if isinstance(spec, tt.Dropout)]
        back = from_torch(torch_state_dict(net), dropout=rates[0] if rates else None, **options)
        assert back.specs == net.specs
        assert back.parameters == net.parameters

    @pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
    def test_through_a_module(self, name, dtype, torch):
        net = network(NETWORKS[name], dtype)
        module = module_of(torch, net).to(getattr(torch, dtype))
        assert dict(module.named_parameters()).keys() == torch_state_dict(net).keys()
        to_torch(net, module)
        back = from_torch(module)
        assert back.specs == net.specs
        assert back.parameters == net.parameters
        x = np.random.default_rng(2).standard_normal((5, 2, 3)).astype(dtype)
        outputs = module.eval()(torch.from_numpy(x))[0].detach().numpy()
        assert relative_error(net.run(x).outputs, outputs) <= 2e-6


class TestReading:
    def test_biases_add_up_but_for_the_candidates(self):
        rng = np.random.default_rng(0)
        weights = {"weight_ih_l0": np.ones((6, 1)), "weight_hh_l0": np.ones((6, 2))}
        weights |= {"bias_ih_l0": rng.uniform(size=6), "bias_hh_l0": rng.uniform(size=6)}
        p = from_torch(weights).parameters
        both = weights["bias_ih_l0"] + weights["bias_hh_l0"]
        assert np.array_equal(p["0.b"][:4], both[:4])
        assert np.array_equal(p["0.b"][4:], weights["bias_ih_l0"][4:])
        assert np.array_equal(p["0.c"], weights["bias_hh_l0"][4:])

    def test_without_biases_they_are_zero(self):
        """Even that of the forget gate, which a new LSTM sets to 1."""
        weights = {"weight_ih_l0": np.ones((8, 1)), "weight_hh_l0": np.ones((8, 2))}
        assert not from_torch(weights).parameters["0.b"].any()

    def test_numbers_are_copied(self):
        weights = {"weight_ih_l0": np.ones((8, 1)), "weight_hh_l0": np.ones((8, 2))}
        from_torch(weights).parameters["0.W"][...] = 5
        assert (weights["weight_ih_l0"] == 1).all()
        net = network([tt.GRU(3, 2)], "float32")
        before = net.parameters.copy()
        for array in torch_state_dict(net).values():
            array[...] = 7
        assert net.parameters == before

    def test_a_safetensors_file_with_a_prefix(self, tmp_path):
        net = network(NETWORKS["LSTM, stacked"], "float32")
        named = {f"encoder.rnn.{name}": array for name, array in torch_state_dict(net).items()}
        save_file(named | {"head.weight": np.ones((2, 4), np.float32)}, tmp_path / "m.safetensors")
        back = from_torch(load_file(tmp_path / "m.safetensors"), prefix="encoder.rnn.")
        assert back.parameters == net.parameters

    def test_a_module_within_a_module(self, torch):
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.rnn = torch.nn.RNN(3, 4, 2, nonlinearity="relu", dropout=0.1)
                self.head = torch.nn.Linear(4, 2)

        model = Model()
        net = from_torch(model, prefix="rnn.")
        assert net.specs == (tt.RNN(3, 4, "relu"), tt.Dropout(0.1), tt.RNN(4, 4, "relu"))
        assert net.parameters == from_torch(model.rnn).parameters
        mapping = from_torch(model.state_dict(), prefix="rnn.", nonlinearity="relu", dropout=0.1)
        assert mapping.parameters == net.parameters

    def test_torch_is_not_imported(self):
        code = """
import sys, numpy as np
import throughtime as tt
weights = {"weight_ih_l0": np.ones((8, 1)), "weight_hh_l0": np.ones((8, 2))}
tt.torch_state_dict(tt.from_torch(weights))
assert "torch" not in sys.modules
"""
        subprocess.run([sys.executable, "-c", code], check=True)


def refusal(message, error=ValueError):
    return pytest.raises(error, match=re.escape(message))


W, U = np.ones((8, 3), np.float32), np.ones((8, 2), np.float32)


class TestRefusedReading:
    def test_no_weights_under_this_prefix(self):
        message = (
            "weights: expected a weight_ih_l0, got rnn.weight_ih_l0, fc.weight; give prefix='rnn.'"
        )
        with refusal(message):
            from_torch({"rnn.weight_ih_l0": W, "fc.weight": W})

    def test_nothing(self):
        with refusal("weights: expected a x.weight_ih_l0, got no names"):
            from_torch({}, prefix="x.")

    def test_missing_recurrent_weight(self):
        with refusal("weights: expected a weight_hh_l0 beside weight_ih_l0, got none"):
            from_torch({"weight_ih_l0": W})

    def test_missing_bias(self):
        with refusal(
            "weights: expected the names weight_ih_l0, weight_hh_l0, bias_ih_l0, "
            "bias_hh_l0, got bias_hh_l0 missing"
        ):
            from_torch({"weight_ih_l0": W, "weight_hh_l0": U, "bias_ih_l0": W[:, 0]})

    def test_unknown_name(self):
        with refusal("got fc.weight unknown"):
            from_torch({"weight_ih_l0": W, "weight_hh_l0": U, "fc.weight": U})

    def test_a_gap_between_layers(self):
        with refusal("got weight_ih_l2 unknown"):
            from_torch({"weight_ih_l0": W, "weight_hh_l0": U, "weight_ih_l2": W})

    def test_rows_of_no_cell(self):
        message = "weight_ih_l0: rows: expected 2 (RNN), 6 (GRU) or 8 (LSTM) for 2 units, got 7"
        with refusal(message):
            from_torch({"weight_ih_l0": W[:7], "weight_hh_l0": U[:7]})

    def test_projection_of_no_lstm(self):
        weights = {"weight_ih_l0": W[:6], "weight_hh_l0": U[:6, :1]}
        with refusal("weight_ih_l0: rows: expected 8 (LSTM) for 2 units, got 6"):
            from_torch(weights | {"weight_hr_l0": np.ones((1, 2), np.float32)})

    def test_recurrent_weight_of_another_shape(self):
        with refusal("weight_hh_l0: expected (8, 2), got (6, 2)"):
            from_torch({"weight_ih_l0": W, "weight_hh_l0": U[:6]})

    def test_vector_in_place_of_matrix(self):
        with refusal("weight_hh_l0: expected (rows, columns), got (8,)"):
            from_torch({"weight_ih_l0": W, "weight_hh_l0": U[:, 0]})

    def test_nonlinearity_unknown(self):
        message = (
            "nonlinearity: expected 'tanh' or 'relu' of the RNN, got None; "
            "give nonlinearity=…, since the weights do not tell"
        )
        with refusal(message):
            from_torch({"weight_ih_l0": W[:2], "weight_hh_l0": U[:2]})

    def test_layers_of_different_kinds(self):
        weights = {"weight_ih_l0": W, "weight_hh_l0": U}
        weights |= {"weight_ih_l1": U[:6], "weight_hh_l1": U[:6]}
        with refusal("layer 1: expected the kind, size and options of LSTM(inputs=3"):
            from_torch(weights)

    def test_half_precision(self):
        message = (
            "weight_ih_l0: expected float32 or float64, got float16; "
            "convert it first: module.float() or array.astype('float32')"
        )
        with refusal(message, TypeError):
            from_torch({"weight_ih_l0": W.astype(np.float16), "weight_hh_l0": U})

    def test_bfloat16(self, torch):
        with refusal("weight_ih_l0: expected float32 or float64, got bfloat16", TypeError):
            from_torch(torch.nn.LSTM(3, 2).bfloat16())

    def test_mixed_precision(self):
        with refusal("weights: expected one dtype, got float32 and float64", TypeError):
            from_torch({"weight_ih_l0": W, "weight_hh_l0": U.astype(np.float64)})

    def test_nan(self):
        broken = W.copy()
        broken[1, 2] = np.nan
        with refusal("rnn.weight_ih_l0: expected finite numbers, got nan at (1, 2) (1 of 24)"):
            from_torch({"rnn.weight_ih_l0": broken, "rnn.weight_hh_l0": U}, prefix="rnn.")

    def test_another_torch_module(self, torch):
        with refusal("weights: expected a weight_ih_l0, got weight, bias"):
            from_torch(torch.nn.Linear(3, 2))


HOLD = "expected what torch.nn.RNN, LSTM or GRU can hold, got"


class TestRefusedWriting:
    @pytest.mark.parametrize(
        ("layers", "message"),
        [
            ([tt.LSTM(3, 4, peepholes=True)], f"layer 0: {HOLD} an LSTM with peepholes; choose"),
            (
                [tt.GRU(3, 4, reset_after=False)],
                f"layer 0: {HOLD} the original GRU (reset_after=False); choose",
            ),
            (
                [tt.LSTM(3, 4, projection=4)],
                f"layer 0: {HOLD} a projection to 4 of 4 units (torch: to fewer); choose",
            ),
            ([tt.GRU(3, 4), tt.Dense(4, 2)], f"layer 1: {HOLD} a layer Dense; choose"),
            ([tt.Embedding(3, 4), tt.GRU(4, 4)], f"layer 0: {HOLD} a layer Embedding; choose"),
            (
                [tt.GRU(3, 4), tt.GRU(4, 5)],
                "layer 1: expected the kind, size and options of GRU(inputs=3, units=4, "
                "bidirectional=False, reset_after=True) and 4 inputs, got GRU(inputs=4, units=5, "
                "bidirectional=False, reset_after=True); one torch module has equal layers",
            ),
            ([tt.RNN(3, 4), tt.RNN(4, 4, "relu")], "layer 1: expected the kind, size and options"),
            (
                [tt.GRU(3, 4), tt.Dropout(0.1)],
                "layers: expected recurrent ones, with the same Dropout between all or none, got",
            ),
            (
                [tt.GRU(3, 4), tt.Dropout(0.1), tt.GRU(4, 4), tt.Dropout(0.2), tt.GRU(4, 4)],
                "layers: expected recurrent ones, with the same Dropout between all or none, got",
            ),
            (
                [tt.GRU(3, 4), tt.Dropout(0.1), tt.GRU(4, 4), tt.GRU(4, 4)],
                "layers: expected recurrent ones, with the same Dropout between all or none, got",
            ),
        ],
    )
    def test_what_torch_cannot_hold(self, layers, message):
        with refusal(message):
            torch_state_dict(tt.Network(layers))

    def test_chosen_layers(self):
        net = network([tt.Embedding(5, 3), tt.LSTM(3, 4), tt.Dense(4, 5)], "float32")
        chosen = torch_state_dict(net, layers=[1])
        assert np.array_equal(chosen["weight_ih_l0"], net.parameters["1.W"])
        with refusal("layers: expected numbers from 0 to 2, got 3"):
            torch_state_dict(net, layers=[1, 3])
        with refusal("all or none, got none"):
            torch_state_dict(net, layers=[])

    def test_biases_into_a_module_without(self, torch):
        net = network([tt.GRU(3, 4)], "float32")
        module = torch.nn.GRU(3, 4, bias=False)
        message = (
            "bias_ih_l0: expected 0, since the module has no biases, got other numbers; "
            "make the module with bias=True, or set the network's biases to 0"
        )
        with refusal(message):
            to_torch(net, module)
        net.parameters["0.b"] = np.zeros(12)
        net.parameters["0.c"] = np.zeros(4)
        to_torch(net, module)
        assert from_torch(module).parameters == net.parameters

    def test_another_module(self, torch):
        net = network([tt.RNN(3, 4), tt.RNN(4, 4)], "float32")
        wrong = [
            (
                torch.nn.Linear(3, 4),
                "module: expected a torch.nn.RNN, LSTM or GRU, got Linear; "
                "give the attribute that is one",
                TypeError,
            ),
            (torch.nn.GRU(3, 4, 2), "module: mode: expected RNN_TANH, got GRU", ValueError),
            (
                torch.nn.RNN(3, 4, 2, nonlinearity="relu"),
                "module: mode: expected RNN_TANH, got RNN_RELU",
                ValueError,
            ),
            (
                torch.nn.RNN(3, 4, 2, dropout=0.5),
                "module: dropout: expected 0.0, got 0.5; set module.dropout = 0.0",
                ValueError,
            ),
            (
                torch.nn.RNN(3, 4, 1),
                "module: expected the names weight_ih_l0, weight_hh_l0, "
                "bias_ih_l0, bias_hh_l0, weight_ih_l1, weight_hh_l1, bias_ih_l1, bias_hh_l1, "
                "got weight_ih_l1 missing, weight_hh_l1 missing, bias_ih_l1 missing, "
                "bias_hh_l1 missing",
                ValueError,
            ),
            (
                torch.nn.RNN(2, 4, 2),
                "module: weight_ih_l0: expected (4, 3), got (4, 2)",
                ValueError,
            ),
            (
                torch.nn.RNN(3, 4, 2).double(),
                "module: weight_ih_l0: expected float32, got "
                "float64; convert the network: network.astype('float64')",
                TypeError,
            ),
        ]
        for module, message, error in wrong:
            before = {name: value.clone() for name, value in module.state_dict().items()}
            with refusal(message, error):
                to_torch(net, module)
            assert all(torch.equal(v, before[n]) for n, v in module.state_dict().items())
