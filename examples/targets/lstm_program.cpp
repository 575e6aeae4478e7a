// The same LSTM as a program: one JSON object a line in, one out, numbers in flat binary files.
//
//   c++ -O2 -I"$(throughtime check --include)" lstm_program.cpp -o lstm
//   throughtime check --program ./lstm

#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>

#include "lstm.cpp"

const size_t COUNT = G * I + G * H + G + O * H + O;

// The value of "key" in a line of flat JSON: enough for what the checker sends.
std::string value(const std::string &line, const std::string &key) {
    size_t from = line.find("\"" + key + "\":");
    if (from == std::string::npos) return "";
    from = line.find_first_not_of(" ", from + key.size() + 3);
    if (line[from] != '"') return line.substr(from, line.find_first_of(",}", from) - from);
    return line.substr(from + 1, line.find('"', from + 1) - from - 1);
}

Vector read(const std::string &path) {
    Vector flat(COUNT);
    std::ifstream(path, std::ios::binary).read(reinterpret_cast<char *>(flat.data()), COUNT * sizeof(float));
    return flat;
}

int main() {
    for (std::string line; std::getline(std::cin, line);) {
        const std::string todo = value(line, "do");
        if (todo == "describe") {
            std::cout << R"({"names": ["W", "U", "b", "V", "d"],)"
                         R"("shapes": [[20, 5], [20, 5], [20], [5, 5], [5]],)"
                         R"("dtype": "float32", "steps": 39, "optional": ["set_length"]})";
        } else if (todo == "loss") {
            std::printf("{\"loss\": %.17g}", tt_loss(read(value(line, "parameters")).data(), COUNT));
        } else if (todo == "gradient") {
            Vector gradient(COUNT);
            tt_gradient(read(value(line, "parameters")).data(), gradient.data(), COUNT);
            std::ofstream(value(line, "gradient"), std::ios::binary)
                .write(reinterpret_cast<char *>(gradient.data()), COUNT * sizeof(float));
            std::cout << "{}";
        } else if (todo == "set_length") {
            tt_set_length(std::stoul(value(line, "steps")));
            std::cout << "{}";
        } else {
            std::cout << "{\"error\": \"cannot " << todo << "\"}";
        }
        std::cout << std::endl;
    }
}
