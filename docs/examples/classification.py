"""Classify images with a net, and look inside it: filters, activations, probabilities.

    python -m caffecompat.run docs/examples/classification.py [FOLDER]

The net tells apart five textures. Its filters are computed here, so that nothing is downloaded; a
model from elsewhere takes the place of ``texture.prototxt`` and ``texture.caffemodel``. Results are
written to FOLDER (default: classification-results).
"""

import os
import sys
import time

import caffe
import cv2
import matplotlib.pyplot as plt
import numpy as np
from caffe import layers as L
from caffe import params as P

folder = sys.argv[1] if len(sys.argv) > 1 else "classification-results"
os.makedirs(folder, exist_ok=True)
caffe.set_mode_cpu()

# --- 1. Images: five classes of textures, and a few files to classify ------------------------

CLASSES = ["horizontal stripes", "vertical stripes", "squares", "diamonds", "cloth"]
# The directions of the waves that make up each class, in degrees.
ANGLES = [(90,), (0,), (0, 90), (45, 135), (0, 45, 90, 135)]
SIDE = 56
random = np.random.RandomState(1)


def texture(label):
    """An image of a class, height x width x R, G, B in [0, 1]; each call gives another one."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    period = random.uniform(8, 13)
    gray = np.full((SIDE, SIDE), 0.5)
    for angle in np.deg2rad(ANGLES[label]):
        angle = angle + np.deg2rad(random.uniform(-8, 8))
        along = columns * np.cos(angle) + rows * np.sin(angle)
        wave = np.sin(2 * np.pi * along / period + random.uniform(0, 2 * np.pi))
        gray += 0.4 * wave / len(ANGLES[label])
    color = random.uniform(0.7, 1, size=3)
    noisy = gray[..., None] * color + random.normal(0, 0.03, (SIDE, SIDE, 3))
    return np.clip(noisy, 0, 1).astype(np.float32)


for label, name in enumerate(CLASSES):
    image = (255 * texture(label)).astype(np.uint8)
    cv2.imwrite(os.path.join(folder, name.replace(" ", "-") + ".png"), image[:, :, ::-1])

# --- 2. The definition ----------------------------------------------------------------------

KERNEL = 11
n = caffe.NetSpec()
n.data = L.Input(shape=dict(dim=[10, 3, 48, 48]))
n.conv1 = L.Convolution(n.data, kernel_size=KERNEL, stride=2, num_output=16)
n.relu1 = L.ReLU(n.conv1, in_place=True)
n.pool1 = L.Pooling(n.relu1, pool=P.Pooling.MAX, kernel_size=3, stride=2)
n.pool2 = L.Pooling(n.pool1, pool=P.Pooling.AVE, global_pooling=True)
n.fc = L.InnerProduct(n.pool2, num_output=len(CLASSES))
n.prob = L.Softmax(n.fc)
model_def = os.path.join(folder, "texture.prototxt")
with open(model_def, "w") as f:
    f.write('name: "texture"\n' + str(n.to_proto()))

# --- 3. Weights: wavelets in conv1, then a linear classifier of what they answer -----------

net = caffe.Net(model_def, caffe.TEST)
rows, columns = np.mgrid[:KERNEL, :KERNEL] - KERNEL // 2
for k in range(16):
    angle = np.pi * (k % 8) / 8
    along = columns * np.cos(angle) + rows * np.sin(angle)
    wave = np.cos(2 * np.pi * along / 10.5 + (np.pi / 2 if k >= 8 else 0))
    wavelet = wave * np.exp(-(rows**2 + columns**2) / (2 * 3.0**2))
    net.params["conv1"][0].data[k] = (wavelet - wavelet.mean()) / 1000
net.params["conv1"][1].data[...] = 0

# Images come as R, G, B in [0, 1]; nets of Caffe mostly want B, G, R in [0, 255] less a mean.
transformer = caffe.io.Transformer({"data": net.blobs["data"].data.shape})
transformer.set_transpose("data", (2, 0, 1))
transformer.set_channel_swap("data", (2, 1, 0))
transformer.set_raw_scale("data", 255)
transformer.set_mean("data", np.array([104.0, 117.0, 123.0]))

labels = np.repeat(np.arange(len(CLASSES)), 40)
images = caffe.io.oversample([texture(label) for label in labels], (48, 48))[4::10]
images = np.stack([transformer.preprocess("data", image) for image in images])
features = net.forward_all(blobs=["pool2"], data=images)["pool2"].reshape(len(labels), -1)
center, spread = features.mean(0), features.std(0)
known = np.c_[(features - center) / spread, np.ones(len(labels))]
targets = 10.0 * (labels[:, None] == np.arange(len(CLASSES)))
weights = np.linalg.solve(known.T @ known + 1e-3 * np.eye(known.shape[1]), known.T @ targets)
net.params["fc"][0].data[...] = (weights[:-1] / spread[:, None]).T
net.params["fc"][1].data[...] = weights[-1] - (weights[:-1].T @ (center / spread))
model_weights = os.path.join(folder, "texture.caffemodel")
net.save(model_weights)

# --- 4. Classification of one image ------------------------------------------------------------

net = caffe.Net(model_def, caffe.TEST, weights=model_weights)
net.blobs["data"].reshape(1, 3, 48, 48)
image = caffe.io.load_image(os.path.join(folder, "squares.png"))
net.blobs["data"].data[...] = transformer.preprocess("data", image)
output = net.forward()
output_prob = output["prob"][0]
print("predicted class is:", CLASSES[output_prob.argmax()])
for place in output_prob.argsort()[::-1][:3]:
    print("  %.3f %s" % (output_prob[place], CLASSES[place]))

start = time.time()
for _ in range(20):
    net.forward()
print("forward pass: %.2f ms" % (1000 * (time.time() - start) / 20))

# --- 5. What is in the net --------------------------------------------------------------------

for layer_name, blob in net.blobs.items():
    print("%-8s %s" % (layer_name, blob.data.shape))
for layer_name, param in net.params.items():
    print("%-8s %s %s" % (layer_name, param[0].data.shape, param[1].data.shape))


def vis_square(data, title, filename):
    """Shows an array of n x height x width, or n x height x width x 3, as a square of tiles."""
    data = (data - data.min()) / (data.max() - data.min())
    side = int(np.ceil(np.sqrt(data.shape[0])))
    padding = ((0, side**2 - data.shape[0]), (0, 1), (0, 1)) + ((0, 0),) * (data.ndim - 3)
    data = np.pad(data, padding, mode="constant", constant_values=1)
    data = data.reshape((side, side) + data.shape[1:])
    data = data.transpose((0, 2, 1, 3) + tuple(range(4, data.ndim)))
    data = data.reshape((side * data.shape[1], side * data.shape[3]) + data.shape[4:])
    plt.figure(figsize=(5, 5))
    plt.imshow(data, cmap="gray")
    plt.title(title)
    plt.axis("off")
    plt.savefig(os.path.join(folder, filename))
    plt.close()


vis_square(net.params["conv1"][0].data.transpose(0, 2, 3, 1), "filters of conv1", "filters.png")
vis_square(net.blobs["conv1"].data[0], "activations of conv1", "activations.png")
vis_square(net.blobs["pool1"].data[0], "activations of pool1", "pooled.png")

plt.figure(figsize=(9, 3))
plt.subplot(1, 3, 1)
plt.imshow(transformer.deprocess("data", net.blobs["data"].data[0]))
plt.title("input")
plt.subplot(1, 3, 2)
plt.hist(net.blobs["pool1"].data.flat, bins=50)
plt.title("values of pool1")
plt.subplot(1, 3, 3)
plt.bar(range(len(CLASSES)), output_prob)
plt.title("probabilities")
plt.tight_layout()
plt.savefig(os.path.join(folder, "values.png"))
plt.close()

# --- 6. The same by Classifier, for all files, with ten crops of each ---------------------------

classifier = caffe.Classifier(
    model_def,
    model_weights,
    image_dims=(SIDE, SIDE),
    mean=np.array([104.0, 117.0, 123.0]),
    raw_scale=255,
    channel_swap=(2, 1, 0),
)
files = [os.path.join(folder, name.replace(" ", "-") + ".png") for name in CLASSES]
predictions = classifier.predict([caffe.io.load_image(name) for name in files])
for name, prediction in zip(CLASSES, predictions, strict=True):
    print("%-18s -> %-18s %.3f" % (name, CLASSES[prediction.argmax()], prediction.max()))
print("correct: %d of %d" % ((predictions.argmax(1) == np.arange(5)).sum(), len(CLASSES)))
