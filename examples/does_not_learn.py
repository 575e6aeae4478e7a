"""A network that has to say, at the end of a sequence, which symbol came first.

    python does_not_learn.py             # the loss stays at log 4 = 1.386: it guesses
    python does_not_learn.py --remember  # with the one change that tt.flow advises

The page "My torch model does not learn" tells its story.
"""

import sys

import torch

T, B, V, H = 30, 32, 4, 32  # steps, sequences, symbols, units


class FirstSymbol(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(V, 8)
        self.lstm = torch.nn.LSTM(8, H, batch_first=True)
        self.head = torch.nn.Linear(H, V)

    def forward(self, symbols):
        h, _ = self.lstm(self.embedding(symbols))
        return self.head(h[:, -1])


def remember(model):
    """Opens the forget gates for as long as the sequence."""
    with torch.no_grad():
        model.lstm.bias_ih_l0[H : 2 * H] = 3.33
        model.lstm.bias_hh_l0[H : 2 * H] = 0


def train(model, updates=300):
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for update in range(updates + 1):
        symbols = torch.randint(V, (B, T))
        loss = torch.nn.functional.cross_entropy(model(symbols), symbols[:, 0])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if update % 100 == 0:
            print(f"update {update:3}  loss {loss.item():.3f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    model = FirstSymbol()
    if "--remember" in sys.argv:
        remember(model)
    train(model)
