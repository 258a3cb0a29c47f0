"""Net surgery: change filters by hand, and make a classifier fully convolutional.

    python -m caffecompat.run docs/examples/net_surgery.py [FOLDER]

Results are written to FOLDER (default: surgery-results).
"""

import os
import sys

import caffe
import matplotlib.pyplot as plt
import numpy as np
from caffe import layers as L
from caffe import params as P

folder = sys.argv[1] if len(sys.argv) > 1 else "surgery-results"
os.makedirs(folder, exist_ok=True)
caffe.set_mode_cpu()
caffe.set_random_seed(3)


def write(name, spec):
    """Writes a net; returns the path."""
    path = os.path.join(folder, name + ".prototxt")
    with open(path, "w") as f:
        f.write('name: "%s"\n' % name + str(spec.to_proto()))
    return path


# An image with a bright disc, a dark ring and a slope.
rows, columns = np.mgrid[:100, :140].astype(float)
distance = np.hypot(rows - 40, columns - 90)
picture = 0.3 + 0.2 * columns / 140 + 0.4 * (distance < 18) - 0.2 * (np.abs(distance - 30) < 3)

# --- 1. Filters set by hand ---------------------------------------------------------------------

n = caffe.NetSpec()
n.data = L.Input(shape=dict(dim=[1, 1, 100, 100]))
n.conv = L.Convolution(
    n.data, kernel_size=5, num_output=3, weight_filler=dict(type="gaussian", std=0.01)
)
net = caffe.Net(write("conv", n), caffe.TEST)
print("blobs", list(net.blobs.keys()), "params", list(net.params.keys()))

# The net takes the size of the image.
net.blobs["data"].reshape(1, 1, *picture.shape)
net.reshape()
net.blobs["data"].data[...] = picture


def show_filters(net, filename):
    """Runs the net and shows each filter above what it gives."""
    net.forward()
    plt.figure(figsize=(9, 5))
    for k in range(3):
        plt.subplot(2, 3, k + 1)
        plt.imshow(net.params["conv"][0].data[k, 0], cmap="gray", interpolation="nearest")
        plt.title("filter %d" % k)
        plt.axis("off")
        plt.subplot(2, 3, k + 4)
        plt.imshow(net.blobs["conv"].data[0, k], cmap="gray")
        plt.axis("off")
    plt.tight_layout()
    plt.savefig(os.path.join(folder, filename))
    plt.close()


show_filters(net, "random-filters.png")

# A bias is one number for each filter: the values of the first move by 1.
before = net.blobs["conv"].data[0, 0].mean()
net.params["conv"][1].data[0] = 1.0
net.forward()
print("mean of filter 0: %.3f, with bias %.3f" % (before, net.blobs["conv"].data[0, 0].mean()))

# A Gaussian that blurs, and two that find edges.
taps = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
net.params["conv"][0].data[0] = np.outer(taps, taps)
net.params["conv"][0].data[1:] = 0
slope = np.array([-1.0, -2.0, 0.0, 2.0, 1.0])
net.params["conv"][0].data[1, 0] = np.outer(taps, slope)
net.params["conv"][0].data[2, 0] = np.outer(slope, taps)
net.params["conv"][1].data[...] = 0
show_filters(net, "edge-filters.png")
print("blurred mean %.3f of %.3f" % (net.blobs["conv"].data[0, 0].mean(), picture.mean()))

# --- 2. A classifier of patches: is there a disc? -------------------------------------------------

SIDE = 32


def patch_net(batch):
    """The layers up to the scores of two classes."""
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[batch, 1, SIDE, SIDE]))
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=8, weight_filler=dict(type="xavier"))
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.conv2 = L.Convolution(n.pool1, kernel_size=3, num_output=8, weight_filler=dict(type="xavier"))
    n.relu2 = L.ReLU(n.conv2, in_place=True)
    n.pool2 = L.Pooling(n.relu2, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.fc6 = L.InnerProduct(n.pool2, num_output=32, weight_filler=dict(type="xavier"))
    n.relu6 = L.ReLU(n.fc6, in_place=True)
    n.fc7 = L.InnerProduct(n.relu6, num_output=2, weight_filler=dict(type="xavier"))
    return n


deploy = patch_net(1)
deploy.prob = L.Softmax(deploy.fc7)
deploy_path = write("patch", deploy)

# This script writes the data of the training net into its inputs.
train = patch_net(64)
train.label = L.Input(shape=dict(dim=[64]))
train.loss = L.SoftmaxWithLoss(train.fc7, train.label)
train_path = write("patch_train", train)
solver_path = os.path.join(folder, "patch_solver.prototxt")
with open(solver_path, "w") as f:
    f.write(
        'train_net: "%s" type: "Adam" base_lr: 0.002 momentum: 0.9 lr_policy: "fixed"\n'
        % train_path
    )
    f.write('max_iter: 1000 snapshot_prefix: "%s/patch"\n' % folder)

solver = caffe.get_solver(solver_path)
random = np.random.RandomState(5)
y, x = np.mgrid[:SIDE, :SIDE]
for step in range(200):
    labels = random.randint(0, 2, 64)
    patches = random.uniform(0.2, 0.6, (64, 1, 1)) + random.normal(0, 0.03, (64, SIDE, SIDE))
    for patch, label in zip(patches, labels, strict=True):
        # Class 1 has a disc in the middle, class 0 one elsewhere or the arc of a ring.
        turn = random.uniform(0, 2 * np.pi)
        away = random.uniform(0, 3) if label else random.uniform(8, 30)
        near = np.hypot(y - 15.5 - away * np.sin(turn), x - 15.5 - away * np.cos(turn))
        if label or random.rand() < 0.5:
            patch += 0.4 * (near < random.uniform(16, 20))
        else:
            patch -= 0.2 * (np.abs(near - 30) < 3)
    solver.net.blobs["data"].data[:, 0] = patches
    solver.net.blobs["label"].data[...] = labels
    solver.step(1)
    if step % 50 == 49:
        print("step %d, loss %.3f" % (step + 1, solver.net.blobs["loss"].data))
weights_path = os.path.join(folder, "patch.caffemodel")
solver.net.save(weights_path)

# --- 3. The same weights as convolutions ------------------------------------------------------

n = caffe.NetSpec()
n.data = L.Input(shape=dict(dim=[1, 1, SIDE, SIDE]))
for name in ("conv1", "relu1", "pool1", "conv2", "relu2", "pool2"):
    layer = deploy[name].fn
    bottom = n.data if name == "conv1" else list(n.vals())[-1]
    n[name] = getattr(L, layer.type_name)(bottom, in_place=layer.in_place, **layer.params)
n["fc6-conv"] = L.Convolution(n.pool2, kernel_size=6, num_output=32)
n["relu6"] = L.ReLU(n["fc6-conv"], in_place=True)
n["fc7-conv"] = L.Convolution(n["relu6"], kernel_size=1, num_output=2)
n["prob"] = L.Softmax(n["fc7-conv"])
full_path = write("patch_full_conv", n)

net = caffe.Net(deploy_path, caffe.TEST, weights=weights_path)
params = ["fc6", "fc7"]
fc_params = {pr: (net.params[pr][0].data, net.params[pr][1].data) for pr in params}
for fc in params:
    print("%s weights are %s dimensional" % (fc, fc_params[fc][0].shape))

net_full_conv = caffe.Net(full_path, caffe.TEST, weights=weights_path)
params_full_conv = ["fc6-conv", "fc7-conv"]
conv_params = {
    pr: (net_full_conv.params[pr][0].data, net_full_conv.params[pr][1].data)
    for pr in params_full_conv
}
for pr, pr_conv in zip(params, params_full_conv, strict=True):
    conv_params[pr_conv][0].flat = fc_params[pr][0].flat
    conv_params[pr_conv][1][...] = fc_params[pr][1]
    print("%s weights are %s dimensional" % (pr_conv, conv_params[pr_conv][0].shape))
net_full_conv.save(os.path.join(folder, "patch_full_conv.caffemodel"))

# On a patch both give the same.
patch = picture[24:56, 74:106]
one = net.forward(data=patch[None, None].astype(np.float32))["prob"]
same = net_full_conv.forward(data=patch[None, None].astype(np.float32))["prob"]
print("largest difference on a patch: %.1e" % np.abs(one.ravel() - same.ravel()).max())

# On the whole image the new net gives a map, one value for every fourth pixel.
net_full_conv.blobs["data"].reshape(1, 1, *picture.shape)
net_full_conv.blobs["data"].data[...] = picture
prob = net_full_conv.forward()["prob"][0]
print("map of", prob.shape)
found = np.argwhere(prob[1] > 0.5)
print("the disc is near row %d, column %d" % tuple(4 * found.mean(0) + SIDE // 2))

plt.figure(figsize=(9, 3))
plt.subplot(1, 2, 1)
plt.imshow(picture, cmap="gray")
plt.title("image")
plt.subplot(1, 2, 2)
plt.imshow(prob[1], vmin=0, vmax=1)
plt.title("probability of a disc")
plt.tight_layout()
plt.savefig(os.path.join(folder, "map.png"))
plt.close()
