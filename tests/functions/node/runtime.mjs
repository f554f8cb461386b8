// Node.js runtime for the tests: the event loop of AWS's documentation of the Runtime API, around the function that
// _HANDLER names as `MODULE.FUNCTION`. AWS's own client is compiled at its installation.

import http from "node:http";

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true });
const [module, name] = process.env._HANDLER.split(".");
const handler = (await import(`/var/task/${module}.mjs`))[name];

function call(method, path, headers = {}, body = "") {
  return new Promise((resolve, reject) => {
    const options = { host, port, method, agent, headers, path: `/2018-06-01/runtime/${path}` };
    const request = http.request(options, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => resolve({ headers: answer.headers, body: Buffer.concat(parts).toString() }));
      answer.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}

for (;;) {
  const { headers, body } = await call("GET", "invocation/next");
  const id = headers["lambda-runtime-aws-request-id"];
  try {
    const answer = await handler(JSON.parse(body));
    await call("POST", `invocation/${id}/response`, {}, JSON.stringify(answer));
  } catch (error) {
    const told = { errorType: error.name, errorMessage: error.message, trace: error.stack.split("\n") };
    await call("POST", `invocation/${id}/error`, { "Lambda-Runtime-Function-Error-Type": error.name }, JSON.stringify(told));
  }
}
