"""Train LeNet step by step from Python, with curves that grow while it learns.

    python -m caffecompat.run docs/examples/lenet_training.py [FOLDER]

The digits are drawn here from a font of 5 x 7 dots, turned, shifted and blurred, and written to two
LMDBs. Results are written to FOLDER (default: lenet-results).
"""

import os
import shutil
import sys

import caffe
import cv2
import lmdb
import matplotlib.pyplot as plt
import numpy as np
from caffe import layers as L
from caffe import params as P
from caffe.proto import caffe_pb2

folder = sys.argv[1] if len(sys.argv) > 1 else "lenet-results"
os.makedirs(folder, exist_ok=True)
caffe.set_mode_cpu()
caffe.set_random_seed(7)

# --- 1. Digits ----------------------------------------------------------------------------------

# Seven rows of five dots for each digit, as five bits each.
FONT = [
    [14, 17, 19, 21, 25, 17, 14],
    [4, 12, 4, 4, 4, 4, 14],
    [14, 17, 1, 2, 4, 8, 31],
    [31, 2, 4, 2, 1, 17, 14],
    [2, 6, 10, 18, 31, 2, 2],
    [31, 16, 30, 1, 1, 17, 14],
    [6, 8, 16, 30, 17, 17, 14],
    [31, 1, 2, 4, 8, 8, 8],
    [14, 17, 17, 14, 17, 17, 14],
    [14, 17, 17, 15, 1, 2, 12],
]
random = np.random.RandomState(0)


def draw_digit(label):
    """A digit as 28 x 28 pixels, uint8; each call gives another one."""
    dots = np.array([[row >> (4 - k) & 1 for k in range(5)] for row in FONT[label]], np.float32)
    large = cv2.resize(dots, (15, 21), interpolation=cv2.INTER_NEAREST)
    paper = np.zeros((28, 28), np.float32)
    paper[3:24, 6:21] = large
    turn = cv2.getRotationMatrix2D((14, 14), random.uniform(-20, 20), random.uniform(0.75, 1.1))
    turn[:, 2] += random.uniform(-2.5, 2.5, 2)
    paper = cv2.GaussianBlur(cv2.warpAffine(paper, turn, (28, 28)), (3, 3), 0)
    paper = 255 * paper + random.normal(0, 20, paper.shape)
    return np.clip(paper, 0, 255).astype(np.uint8)


def write_lmdb(path, count):
    """Writes digits as Datums, in the order in which they are read."""
    shutil.rmtree(path, ignore_errors=True)
    with lmdb.open(path, map_size=1 << 28) as environment, environment.begin(write=True) as txn:
        for number in range(count):
            label = int(random.randint(10))
            datum = caffe.io.array_to_datum(draw_digit(label)[None], label)
            txn.put(b"%08d" % number, datum.SerializeToString())


write_lmdb(os.path.join(folder, "train_lmdb"), 2000)
write_lmdb(os.path.join(folder, "test_lmdb"), 250)

# --- 2. Nets and solver -------------------------------------------------------------------------


def lenet(source, batch_size):
    """LeNet with its data, as a NetParameter."""
    n = caffe.NetSpec()
    n.data, n.label = L.Data(
        batch_size=batch_size,
        backend=P.Data.LMDB,
        source=os.path.join(folder, source),
        transform_param=dict(scale=1.0 / 255),
        ntop=2,
    )
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, weight_filler=dict(type="xavier"))
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.conv2 = L.Convolution(
        n.pool1, kernel_size=5, num_output=50, weight_filler=dict(type="xavier")
    )
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.fc1 = L.InnerProduct(n.pool2, num_output=100, weight_filler=dict(type="xavier"))
    n.relu1 = L.ReLU(n.fc1, in_place=True)
    n.score = L.InnerProduct(n.relu1, num_output=10, weight_filler=dict(type="xavier"))
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    return n.to_proto()


paths = {}
for name, source, batch_size in (("train", "train_lmdb", 40), ("test", "test_lmdb", 50)):
    paths[name] = os.path.join(folder, "lenet_%s.prototxt" % name)
    with open(paths[name], "w") as f:
        f.write(str(lenet(source, batch_size)))

s = caffe_pb2.SolverParameter()
s.train_net = paths["train"]
s.test_net.append(paths["test"])
s.test_interval = 10000  # the tests are done below, also the one before the first iteration
s.test_initialization = False
s.test_iter.append(5)
s.max_iter = 10000
s.base_lr = 0.01
s.momentum = 0.9
s.weight_decay = 5e-4
s.lr_policy = "inv"
s.gamma = 0.0001
s.power = 0.75
s.snapshot_prefix = os.path.join(folder, "lenet")
s.solver_mode = caffe_pb2.SolverParameter.CPU
solver_path = os.path.join(folder, "solver.prototxt")
with open(solver_path, "w") as f:
    f.write(str(s))

solver = caffe.SGDSolver(solver_path)
for name, blob in solver.net.blobs.items():
    print("%-6s %s" % (name, blob.data.shape))

# --- 3. One step, looked at ---------------------------------------------------------------------

solver.net.forward()
solver.test_nets[0].forward()
print("labels of the first digits:", solver.net.blobs["label"].data[:8].astype(int))
plt.figure(figsize=(8, 1.5))
plt.imshow(solver.net.blobs["data"].data[:8, 0].transpose(1, 0, 2).reshape(28, 8 * 28), cmap="gray")
plt.axis("off")
plt.savefig(os.path.join(folder, "digits.png"))
plt.close()

solver.step(1)
update = solver.net.params["conv1"][0].diff[:, 0]
plt.figure(figsize=(6, 5))
tiles = update.reshape(4, 5, 5, 5).transpose(0, 2, 1, 3).reshape(4 * 5, 5 * 5)
plt.imshow(tiles, cmap="gray")
plt.title("first update of the filters of conv1")
plt.axis("off")
plt.savefig(os.path.join(folder, "first-update.png"))
plt.close()

# --- 4. The training, with curves ---------------------------------------------------------------

niter = 120
test_interval = 20
train_loss = np.zeros(niter)
test_acc = np.zeros(int(np.ceil(niter / test_interval)))
output = np.zeros((niter, 8, 10))

plt.ion()
figure, axis = plt.subplots()
accuracy_axis = axis.twinx()
axis.set_xlabel("iteration")
axis.set_ylabel("train loss")
accuracy_axis.set_ylabel("test accuracy")
accuracy_axis.set_ylim(0, 1)
(loss_line,) = axis.plot([], [], "b")
(accuracy_line,) = accuracy_axis.plot([], [], "r")


def update_curves(done):
    """Draws what is known after ``done`` iterations."""
    loss_line.set_data(np.arange(done), train_loss[:done])
    tests = (done - 1) // test_interval + 1
    accuracy_line.set_data(test_interval * np.arange(tests), test_acc[:tests])
    axis.relim()
    axis.autoscale_view()
    figure.canvas.draw_idle()
    figure.savefig(os.path.join(folder, "curves.png"))


for it in range(niter):
    solver.step(1)
    train_loss[it] = solver.net.blobs["loss"].data

    # The test net shares its weights with the training net. The pass starts after the data, so
    # that the first digits are the same each time, and one sees how they are learnt.
    solver.test_nets[0].forward(start="conv1")
    output[it] = solver.test_nets[0].blobs["score"].data[:8]

    if it % test_interval == 0:
        correct = 0
        # Five batches are the whole of the test data, so that the first comes again.
        for _ in range(5):
            solver.test_nets[0].forward()
            scores = solver.test_nets[0].blobs["score"].data
            correct += (scores.argmax(1) == solver.test_nets[0].blobs["label"].data).sum()
        test_acc[it // test_interval] = correct / 250
        print("iteration %3d, loss %.3f, accuracy %.3f" % (it, train_loss[it], correct / 250))
        update_curves(it + 1)

update_curves(niter)
plt.close(figure)

# --- 5. How the first digits were learnt ----------------------------------------------------------

figure, axes = plt.subplots(2, 4, figsize=(12, 5))
for k, axis in enumerate(axes.flat):
    score = output[:40, k].T
    probability = np.exp(score - score.max(0))
    axis.imshow(probability / probability.sum(0), aspect="auto", cmap="gray")
    axis.set_title("digit %d" % solver.test_nets[0].blobs["label"].data[k])
    axis.set_xlabel("iteration")
    axis.set_ylabel("label")
plt.tight_layout()
plt.savefig(os.path.join(folder, "learning.png"))
plt.close()

solver.snapshot()
print("final accuracy: %.3f" % test_acc[-1])
