// Command health tells how GitOps tools judge objects: Argo CD by a health script, Flux by kstatus.
//
//	health argocd SCRIPT    runs the script in the Lua interpreter that Argo CD embeds, with the libraries it opens
//	health kstatus          asks kstatus' own code
//
// It reads JSON objects from standard input and writes an object with `status` and `message` for each.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kstatus "sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type judge func(data []byte) (verdict, error)

func main() {
	chosen, err := choose(os.Args[1:])
	if err == nil {
		err = each(chosen)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func choose(arguments []string) (judge, error) {
	switch {
	case len(arguments) == 2 && arguments[0] == "argocd":
		script, err := os.ReadFile(arguments[1])
		return func(data []byte) (verdict, error) { return byScript(string(script), data) }, err
	case len(arguments) == 1 && arguments[0] == "kstatus":
		return byKstatus, nil
	}
	return nil, errors.New("usage: health argocd SCRIPT | health kstatus")
}

func each(chosen judge) error {
	decoder, encoder := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var object json.RawMessage
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		found, err := chosen(object)
		if err != nil {
			return err
		}
		if err := encoder.Encode(found); err != nil {
			return err
		}
	}
}

func byKstatus(data []byte) (verdict, error) {
	var object unstructured.Unstructured
	if err := object.UnmarshalJSON(data); err != nil {
		return verdict{}, err
	}
	found, err := kstatus.Compute(&object)
	if err != nil {
		return verdict{}, err
	}
	return verdict{found.Status.String(), found.Message}, nil
}

// byScript opens what Argo CD opens by default: package, base, table and string (its os is cut down to the time).
func byScript(script string, data []byte) (verdict, error) {
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		return verdict{}, err
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
		{lua.StringLibName, lua.OpenString},
	} {
		call := lua.P{Fn: state.NewFunction(library.open), Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return verdict{}, err
		}
	}
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(script); err != nil {
		return verdict{}, err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return verdict{}, fmt.Errorf("the script returned a %s, not a table", state.Get(-1).Type())
	}
	field := func(name string) string { return lua.LVAsString(table.RawGetString(name)) }
	return verdict{field("status"), field("message")}, nil
}

func value(state *lua.LState, from any) lua.LValue {
	switch each := from.(type) {
	case string:
		return lua.LString(each)
	case bool:
		return lua.LBool(each)
	case float64:
		return lua.LNumber(each)
	case []any:
		table := state.CreateTable(len(each), 0)
		for _, item := range each {
			table.Append(value(state, item))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(each))
		for name, item := range each {
			table.RawSetString(name, value(state, item))
		}
		return table
	}
	return lua.LNil
}
