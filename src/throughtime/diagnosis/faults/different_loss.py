# different_loss

The gradient belongs to another loss than the one that is returned.

## How it comes about

The loss was changed and its derivative was not, or the loss that is returned is only the one that is
printed. A pair that is often mixed: cross-entropy for the eye, squared error on the way back.

```python
from throughtime.diagnosis.pages.cells import RNN, softmax


class Wrong(RNN):  # the loss is the cross-entropy
    def output_delta(self, outputs):
        p = softmax(outputs)
        dp = 2 * (p - self.y)
        return p * (dp - (p * dp).sum(axis=-1, keepdims=True))


class Right(RNN):
    def output_delta(self, outputs):
        return softmax(outputs) - self.y
```

```cpp
loss -= std::log(p[t][label]);
dy[t][k] = 2 * (p[t][k] - y[t][k]) * p[t][k] * (1 - p[t][k]);  // wrong: of a squared error
dy[t][k] = p[t][k] - y[t][k];                                  // right
```

## How it shows

The output layer is wrong already, by more than a factor, at every T; what comes back from there is
wrong with it.

```python
assert Right().agrees()
for wrong in (Wrong(), Wrong(T=1)):
    assert not any(map(wrong.agrees, wrong.p))
assert 0.3 < Wrong().cosine("V") < 0.999
```

## What looks like it

- [softmax_derivative_twice](softmax-derivative-twice.md) with a factor of 2 *is* the squared error of a
  softmax. Which it was meant to be, only the code says.
- [targets_shifted](targets-shifted.md) is right at T = 1.
- [factor_two](factor-two.md) and its like keep the cosine at 1.

## What to change

Derive δ of the outputs from the loss that is returned. To train with another loss than one prints is no
fault; hand the one that is trained to the check.
