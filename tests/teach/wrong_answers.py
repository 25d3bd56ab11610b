"""Typical wrong answers: puzzle -> (words of the answer, what stands in their place, what the message has to say)."""

from __future__ import annotations

WRONG = {
    "offsets": [
        ("kernel_size), axis=1)", "kernel_size, order='F'), axis=1)", "first axis runs fastest"),
        ("axis=1)", "axis=1) - np.array(kernel_size) // 2", "counted from the centre"),
        ("kernel_size), axis=1)", "kernel_size))", r"transposed, \(D, K\)")],
    "keys": [
        (".astype(np.int64)", "", "The key has overflowed: the coordinates are int32"),
        ("side + coordinates[:, axis]", "side",
         r"keys\[0\] is 0, expected \d+ .*\nIt is the key of the site \[0, \d+\]"),
        ("result = coordinates[:, 0].astype(np.int64)", "result = np.zeros(len(coordinates), np.int64)",
         "The batch is left out")],
    "lookup": [
        ("np.where(keys[rows] == queries, rows, -1)", "rows", "gets the row of another key"),
        ("np.minimum(np.searchsorted(keys, queries), len(keys) - 1)", "np.searchsorted(keys, queries)",
         r"line \d+ of .*IndexError: index 6 is out of bounds")],
    "outputs": [
        ("cells[inside]", "cells", "lie outside the output grid"),
        ("cells[(cells % stride == 0).all(axis=1)] // stride", "cells // stride", "division with a rest"),
        ("np.unique(cells[inside], axis=0)", "cells[inside]", "a row of outputs occurs twice")],
    "neighbours": [
        ("- padding + offset", "- padding - offset", r"The offset is subtracted.*\n(.*\n)*.*\( 0\)"),
        ("- padding + offset", "+ offset",
         r"The padding is left out.*\n.*\n.*\* 2 - 1 \+ \[0, 1\] = \[-1, 0\], no site"),
        ("output * stride", "output", "The stride is left out")],
    "pairs": [
        ("[neighbours[m, k], m]", "[m, neighbours[m, k]]", "The columns are exchanged"),
        ("np.concatenate([[0], np.cumsum(counts)])", "np.cumsum(counts)", r"splits has shape \(3,\), expected \(4,\)"),
        ("k, m = np.nonzero(neighbours.T >= 0)", "m, k = np.nonzero(neighbours >= 0)", "sorted by output first")],
    "convolution": [
        ("result[m] +=", "result[m] =", "Each offset overwrites"),
        ("@ weights[k]", "@ weights[k].T", "The weights are transposed"),
        ("@ weights[k]", "@ weights[0]", "All offsets use the weights of offset 0")],
    "background": [
        ("(features[neighbours[m, k]] - background)", "features[neighbours[m, k]]", "with a site too: subtract it"),
        (" + bias\n", "\n", "The bias is missing"),
        ("return result, constant", "return result", r"returns an array of shape \(.*\), expected a tuple: result")],
    "max_pool": [
        ("background[None]", "np.zeros_like(background)[None]", "Inactive cells count as zeros"),
        ("rows[neighbours]", "features[neighbours]", "-1 reads the last row of the features"),
        ("background[None]", "np.full_like(background, -np.inf)[None]", "Inactive cells are skipped")],
    "backward": [
        ("of_features[n] += ", "of_features[n] = ", "overwrites the gradient"),
        ("weights[k].T", "weights[k]", r"weights\[k\] has to be transposed"),
        ("features[n].T @ gradient[m]", "gradient[m].T @ features[n]", "The gradient of the weights is transposed")],
    "scale": [
        ("if (i < size) ", "", r"out of bounds: thread 6 of block 2 reads x\[70\], but x has 70 elements\n    line "
                               r"\d+: y\[i\]"),
        ("blockIdx.x * blockDim.x + ", "",
         r"race: thread 0 of block 0 writes y\[0\], and thread 0 of block 1 writes it"),
        ("a * x[i]", "a + x[i]", r"y\[0\] \(i 0\) is .*, expected .*\n.*index .*\[0\]"),
        ("y[i] =", "y[i] +=", r"uninitialised: thread 0 of block 0 reads y\[0\], to which no thread has written"),
        ("i < size", "i < sizes", r"does not compile:\nscale.cu:\d+:\d+: error: .sizes. was not declared")],
    "stride_loop": [
        ("i += gridDim.x * blockDim.x", "i += size",
         r"unwritten output: no thread writes to y\[64\], nor to 135 others"),
        ("i += gridDim.x * blockDim.x", "i += 0",
         r"endless loop: thread 0 of block 0 had not ended after 1 seconds.*\n.*line \d+"),
        ("i += gridDim.x * blockDim.x", "i += blockDim.x", r"race: thread 0 of block 0 writes y\[32\]")],
    "gather": [
        ("n >= 0 ? x[n * channels + c] : background[c]", "x[n * channels + c]",
         r"out of bounds: thread \d+ of block \d reads x\[-4\], but x has 24 elements \(6 x 4\)")],
    "mirror": [
        ("    __syncthreads();\n", "", r"race, a missing barrier: thread \d+ of block 0 reads line\[\d+\], and thread "
                                       r"\d+ of block 0 "
         r"writes it, with no barrier between\n    line \d+: y.*\n    line \d+: line\[t\] ="),
        ("line[63 - t]", "line[64 - t]",
         r"out of bounds: thread 0 of block 0 reads line\[64\], but line has 64 elements"),
        ("line[t] = x[first + t];\n    __syncthreads();\n    y[first + t] = line[63 - t]",
         "y[first + t] = x[first + 63 - t]",
         "does without __syncthreads")],
    "block_sum": [
        ("        __syncthreads();\n", "", r"race, a missing barrier: .* line\[\d+\]"),
        ("        __syncthreads();\n        if (t < width) line[t]",
         "        if (t < width) __syncthreads();\n        if (t < width) line[t]",
         r"divergence: .*\n(.*\n)*.*wait at __syncthreads, line \d+(.*\n)*.*put it before the if"),
        ("if (t == 0) sums[blockIdx.x]", "sums[blockIdx.x]", r"race.*sums\[0\]|race, a missing barrier: .*line\[0\]")],
    "warp_sum": [
        ("if (lane == 0) ", "", r"race: thread 0 of block 0 writes sums\[0\], and thread 1 .*\n(.*\n)*.*only lane 0 "
                                r"has it"),
        ("value += __shfl", "if (lane < step) value += __shfl", r"divergence: .*\n(.*\n)*.*wait at __shfl_down_sync"),
        ("step > 0", "step > 1", r"sums\[0\] \(row 0\) is .*, expected")],
    "histogram": [
        ("atomicAdd(&counts[batch[i]], 1)", "counts[batch[i]] += 1",
         r"race: thread 0 .*counts\[0\].*\n(.*\n)*.*atomicAdd"),
        ("i += gridDim.x * blockDim.x", "i += size", r"counts\[\d\] \(sample \d\) is \d+, expected \d+")],
    "hash_insert": [
        ("while (atomicCAS(&table_keys[slot], -1, keys[i]) != -1) slot = (slot + 1) % slots;",
         "while (table_keys[slot] != -1) slot = (slot + 1) % slots;\n        table_keys[slot] = keys[i];",
         r"race: .*table_keys(.*\n)*.*one step: atomicCAS"),
        ("(slot + 1) % slots", "slot + 1", r"out of bounds: .* reads table_keys\[32\]"),
        ("table_rows[slot] = i", "table_rows[slot] = slot", r"table_rows\[\d+\] is \d+, expected \d+, the row of key")],
    "convolution_kernel": [
        ("            if (n < 0) continue;\n", "", r"out of bounds: .* reads features\[-\d\]"),
        ("result[i] = sum", "if (sum != 0) result[m * c_out + m] = sum", "race|unwritten output|out of bounds"),
        ("(k * c_in + c) * c_out + o", "(k * c_out + o) * c_in + c", r"result\[0, \d\] \(output 0, channel \d\) is")],
    "tiled_convolution": [
        ("matrix[c][x];\n        __syncthreads();", "matrix[c][x];",
         r"race, a missing barrier: .*(rows|matrix)\[\d+\]"),
        ("SIDE + x];\n        __syncthreads();", "SIDE + x];", r"race, a missing barrier: .*(rows|matrix)\[\d+\]"),
        ("m < outputs ? neighbours[m * offsets + k] : -1", "neighbours[m * offsets + k]",
         r"out of bounds: thread \(\d, \d\) of block \d reads neighbours\[\d+\]"),
        ("rows[y][c] *", "(n >= 0 ? features[n * SIDE + c] : 0) *",
         "reads .* elements of features from global memory, expected at")],
}
