"""How long a run's process takes to its first training step: `gpu_start.py bert|glove DEVICE full|quick BEGAN`.

BEGAN: time.time() when the process was started. Prints seconds by part, as JSON. What is not in it: reading a corpus
and trained weights from a disk.
"""

import json
import sys
import time

text, device, sizes, began = sys.argv[1:]
parts = {}
last = float(began)


def part(name: str) -> None:
    global last
    now = time.time()
    parts[name], last = round(now - last, 3), now


part("python")
import gpu_training  # noqa: E402
import torch  # noqa: E402
from gpu_measure import synchronise  # noqa: E402

from hycon import train  # noqa: E402
from hycon.pretrained import modules  # noqa: E402

for module in modules(["bert"] if text == "bert" else []):
    __import__(module)
torch.set_num_threads(1)
part("imports")

torch.zeros(1, device=device)
part("context")

model = "hycon" if text == "bert" else "ef_lstm"
size = gpu_training.QUICK if sizes == "quick" else gpu_training.FULL
train.seed_everything(0, device)
net = gpu_training.network(model, text, size)
part("model")

net.to(device)
training = gpu_training.training_of(model, text, size)
split = gpu_training.made_up(text, size, 2 * training.batch_size).to(device)
synchronise(device)
part("to the device")

gpu_training.few_steps(net, split, training, 1)
synchronise(device)
part("first step")
print(json.dumps({"parts": parts, "seconds": round(last - float(began), 3)}))
