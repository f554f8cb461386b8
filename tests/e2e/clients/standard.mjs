// Node's standard library against the sidecar, on port or socket: `standard.mjs PORT|PATH`.
import assert from "node:assert/strict";
import http from "node:http";

const where = process.argv[2];
const target = /^\d+$/.test(where) ? { host: "127.0.0.1", port: Number(where) } : { socketPath: where };
const agent = new http.Agent({ keepAlive: true });

function call(path, body, headers = {}) {
    return new Promise((resolve, reject) => {
        const request = http.request({ ...target, agent, path, method: "POST", headers }, async (answer) => {
            const pieces = [];
            for await (const piece of answer) pieces.push(piece);
            const content = Buffer.concat(pieces);
            if (answer.statusCode === 200) resolve({ headers: answer.headers, content });
            else reject(new Error(content.toString()));
        });
        request.on("error", reject);
        request.end(body);
    });
}

const row = [14.23, 1.71, 2.43, 15.6, 127, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065];
const plain = await call("/models/names/predict", JSON.stringify({ features: [row] }));
assert.deepEqual(JSON.parse(plain.content).prediction, ["class_0"]);

const path = "/v2/models/identity-double/infer";
const numbers = [0.1, 1 / 3, -5e-324];
const tensor = { name: "x", datatype: "FP64", shape: [1, 3] };
const json = await call(path, JSON.stringify({ inputs: [{ ...tensor, data: numbers }] }));
assert.deepEqual(JSON.parse(json.content).outputs[0].data, numbers);

const bytes = Buffer.from(new Float64Array(numbers).buffer);
const text = Buffer.from(JSON.stringify({
    inputs: [{ ...tensor, parameters: { binary_data_size: bytes.length } }],
    outputs: [{ name: "y", parameters: { binary_data: true } }],
}));
const { headers, content } = await call(path, Buffer.concat([text, bytes]), {
    "Inference-Header-Content-Length": text.length,
});
const length = Number(headers["inference-header-content-length"]);
assert.equal(headers["content-type"], "application/octet-stream");
assert.equal(JSON.parse(content.subarray(0, length)).outputs[0].parameters.binary_data_size, bytes.length);
assert.deepEqual(content.subarray(length), bytes);
agent.destroy();
console.log("ok");
